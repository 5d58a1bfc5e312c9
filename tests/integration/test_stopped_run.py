"""A test run that is stopped, however hard, leaves no process behind."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.processes import running
from tests.reaper import marked

ROOT = Path(__file__).parents[2]
#: starts a server, and a program that starts another
TEST = """
import os, subprocess, time
from pathlib import Path
from tests.servers import RedisServer

def test_it_is_stopped_in_here():
    server = RedisServer()
    subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600"])
    Path(os.environ["STARTED"]).write_text(os.environ["IMG2IMG_TEST_RUN"])
    time.sleep(600)
"""


@pytest.mark.parametrize("name", ["INT", "TERM", "KILL"])
def test_what_a_stopped_run_started_ends_with_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "test_one.py").write_text(TEST)
    started = tmp_path / "started"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest"]
    with running(
        [*command, "--rootdir", str(tmp_path), str(tmp_path / "test_one.py")],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "STARTED": str(started), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    ) as run:
        mark = eventually("it has begun", lambda: started.exists() and started.read_text())
        eventually("the server, the shell and its two are there", lambda: len(marked(mark)) >= 4)
        run.send_signal(signal.Signals[f"SIG{name}"])
        run.wait()
    eventually("nothing of it is left", lambda: not marked(mark))
