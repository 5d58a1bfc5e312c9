"""A process for each device: which are started again, and how all of them end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from img2img_worker.farm.device_processes import REFUSED
from tests.eventually import eventually

#: runs what is tested, for a child that notes its number and environment, and ends as its orders say
PROGRAM = """
import sys
from img2img_worker.farm.device_processes import DeviceProcesses
child, folder, *devices = sys.argv[1:]
sys.exit(DeviceProcesses([sys.executable, "-c", child, folder], devices, "127.0.0.1:9100").run())
"""
CHILD = """
import os, signal, sys, time
from pathlib import Path
folder, device = Path(sys.argv[1]), sys.argv[3]
assert sys.argv[2] == "--device"
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
(folder / f"{device}-{os.getpid()}").write_text(os.environ["IMG2IMG_METRICS"])
while not (folder / f"order-{device}").exists():
    time.sleep(0.02)
order = int((folder / f"order-{device}").read_text())
(folder / f"order-{device}").unlink()
sys.exit(order)
"""


class Children:
    """What runs for the devices."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process

    def of(self, device: str) -> list[int]:
        """Process ids of all that were ever started."""
        return sorted(int(each.name.rpartition("-")[2]) for each in self.folder.glob(f"{device}-*"))

    def runs(self, device: str, times: int) -> bool:
        """Whether so many were started."""
        return len(self.of(device)) == times

    def order(self, device: str, status: int) -> None:
        """Have one of a device end with this exit status."""
        written = self.folder / "written"
        written.write_text(str(status))
        written.rename(self.folder / f"order-{device}")

    def alive(self, pid: int) -> bool:
        """Whether it runs."""
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False


@contextmanager
def running(folder: Path, *devices: str) -> Iterator[Children]:
    command = [sys.executable, "-c", PROGRAM, CHILD, str(folder), *devices]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        children = Children(folder, process)
        try:
            for device in set(devices):
                eventually(f"{device} runs", partial(children.runs, device, devices.count(device)))
            yield children
        finally:
            process.kill()


def test_one_that_dies_is_started_again(tmp_path: Path) -> None:
    with running(tmp_path, "cuda:0", "cuda:1") as children:
        (first,), (other,) = children.of("cuda:0"), children.of("cuda:1")
        os.kill(first, signal.SIGKILL)
        eventually("another runs", lambda: len(children.of("cuda:0")) == 2)
        assert children.of("cuda:1") == [other]
        assert children.alive(other)


def test_one_that_is_drained_stays_ended_and_the_last_one_ends_all(tmp_path: Path) -> None:
    with running(tmp_path, "cuda:0", "cuda:1") as children:
        children.order("cuda:0", 0)
        eventually("it has ended", lambda: not children.alive(children.of("cuda:0")[0]))
        assert children.process.poll() is None
        children.order("cuda:1", 0)
        assert children.process.wait() == 0
        assert len(children.of("cuda:0")) == 1


def test_one_that_is_refused_ends_all(tmp_path: Path) -> None:
    with running(tmp_path, "cuda:0", "cuda:1") as children:
        children.order("cuda:1", REFUSED)
        assert children.process.wait() == REFUSED
        assert not children.alive(children.of("cuda:0")[0])


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_all_end_when_told(tmp_path: Path, name: str) -> None:
    with running(tmp_path, "cpu", "cpu") as children:
        children.process.send_signal(signal.Signals[f"SIG{name}"])
        assert children.process.wait() == 0
        assert not any(children.alive(pid) for pid in children.of("cpu"))


@pytest.mark.skipif(sys.platform != "linux", reason="what Linux does with the children of one that is killed")
def test_none_outlives_what_started_it(tmp_path: Path) -> None:
    with running(tmp_path, "cuda:0") as children:
        children.process.kill()
        children.process.wait()
        eventually("it has ended", lambda: not children.alive(children.of("cuda:0")[0]))


def test_each_shows_its_metrics_at_a_port_of_its_own(tmp_path: Path) -> None:
    with running(tmp_path, "cuda:0", "cuda:1") as children:
        shown = {eventually("it is written", each.read_text) for each in tmp_path.glob("cuda:*")}
        assert shown == {"127.0.0.1:9100", "127.0.0.1:9101"}
        assert children.process.poll() is None
