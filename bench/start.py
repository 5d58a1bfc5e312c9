"""How long a worker takes from its start until it serves, against reading its checkpoint.

    python -m bench.start [--device cuda] [--size tiny|sd15|sdxl] [--checkpoint PATH] [--rounds 2]

Each round: the checkpoint's files are read once, from the disk; then a worker starts that knows nothing, and
another that has the files' hashes from the first, and on a GPU its kernels. Both find the files in the cache
or not, as --cold says.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from bench.networks import SIZES, save
from img2img_shared.ledger import Ledger, connect
from tests.servers import RedisServer

#: seconds between two looks whether the worker is there
LOOK = 0.02


class Start(NamedTuple):
    """Of one worker."""

    wall: float
    cpu: float
    peak: float


def files_of(checkpoint: Path) -> list[Path]:
    return [*checkpoint.rglob("*.safetensors")] if checkpoint.is_dir() else [checkpoint]


def forget(checkpoint: Path) -> None:
    """The system keeps nothing of it in memory."""
    for path in files_of(checkpoint):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds_to_read(checkpoint: Path) -> float:
    start, buffer = time.perf_counter(), bytearray(1 << 20)
    for path in files_of(checkpoint):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - start


@contextmanager
def farm() -> Iterator[tuple[Ledger, dict[str, str]]]:
    """A ledger, and the environment of its workers."""
    server = RedisServer()
    try:
        with tempfile.TemporaryDirectory() as folder, connect(server.url) as redis:
            environment = {
                "IMG2IMG_REDIS_URL": server.url,
                "IMG2IMG_STORE_URL": f"{folder}/store",
                "IMG2IMG_DATA_DIR": f"{folder}/data",
            }
            # a worker keeps its kernels in its own folder
            kept = {key: value for key, value in os.environ.items() if key != "TRITON_CACHE_DIR"}
            yield Ledger(redis), {**kept, **environment}
    finally:
        server.remove()


def start(checkpoint: Path, device: str, ledger: Ledger, environment: dict[str, str]) -> Start:
    begun = time.perf_counter()
    command = [sys.executable, "-m", "img2img_worker", "--model", str(checkpoint), "--log-level", "warning"]
    command += ["--device", device]
    worker = subprocess.Popen(command, env=environment)
    try:
        while not ledger.workers():
            if worker.poll() is not None:
                raise RuntimeError(f"the worker ended with {worker.returncode}")
            time.sleep(LOOK)
        wall = time.perf_counter() - begun
        used = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{worker.pid}/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) / 2**20
        return Start(wall, (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK"), peak)
    finally:
        worker.terminate()
        worker.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--checkpoint", type=Path, help="default: a seeded one of that size, in float16")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cold", action="store_true", help="each start reads the files from the disk")
    arguments = parser.parse_args()
    table = Table("round", "worker", "wall s", "beyond reading", "CPU s", "peak GiB")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint or save(
            arguments.size, Path(folder) / "model", torch.float16, arguments.device
        )
        for number in range(1, arguments.rounds + 1):
            forget(checkpoint)
            reading = seconds_to_read(checkpoint)
            table.add_row(str(number), "none: reading alone", f"{reading:.1f}", "", "", "")
            with farm() as (ledger, environment):
                for how in ("the first", "one that has the hashes"):
                    if arguments.cold:
                        forget(checkpoint)
                    took = start(checkpoint, arguments.device, ledger, environment)
                    row = took.wall, took.wall - reading, took.cpu, took.peak
                    table.add_row("", how, *(f"{value:.1f}" for value in row))
    Console().print(table)


if __name__ == "__main__":
    main()
