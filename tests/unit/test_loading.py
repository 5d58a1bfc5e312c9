"""Ctrl-C in the middle of a program's imports, and a worker without its packages."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
import typer

from img2img_shared import command_line

#: interrupts the process when the named module is imported, as Ctrl-C at that moment does
INTERRUPT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ.get("INTERRUPT_AT"):
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program of the farm, with a ``sitecustomize`` in that folder."""
    env = {**os.environ, "PYTHONPATH": str(folder), **environment}
    return subprocess.run(
        [sys.executable, "-m", *arguments], env=env, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (("img2img", "jobs"), "img2img_shared"),
        (("img2img", "jobs"), "pydantic"),
        (("img2img", "worker"), "img2img_producer.cli.machines"),
        (("img2img", "worker"), "img2img_worker.farm.logs"),
        (("img2img", "worker", "--redis-url=redis://127.0.0.1:1", "--store-url=memory://"), "torch"),
        (("img2img", "gateway"), "img2img_gateway.api_keys"),
    ],
)
def test_ctrl_c_while_a_program_is_loaded_ends_it_without_a_word(
    tmp_path: Path, arguments: tuple[str, ...], module: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT)
    ended = run(tmp_path, *arguments, INTERRUPT_AT=module)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


def test_a_worker_without_its_packages_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = None\n")
    ended = run(tmp_path, "img2img", "worker", "--redis-url=redis://127.0.0.1:1", "--store-url=memory://")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "img2img worker: torch is missing: pip install 'img2img-farm[worker]'\n"


def test_ctrl_c_while_options_are_made_ends_it_without_a_word() -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        command_line.run(cast(typer.Typer, interrupted))
    assert end.value.code == command_line.INTERRUPTED
