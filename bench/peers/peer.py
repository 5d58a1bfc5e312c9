"""Peers, the pictures that they render, and the measurement of what that costs."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
from PIL import Image

from img2img_shared.step_count import schedule_and_start

PROMPT, NEGATIVE, CFG_SCALE = "a photo of the cat", "a dog", 7.0
#: most seconds until a program answers
PATIENCE = 900


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One picture, by Euler."""

    #: a PNG, a different one for each number
    png: bytes
    side: int
    seed: int
    steps: int = 8
    #: as A1111 means it
    strength: float = 0.75

    @property
    def calls(self) -> int:
        """Model calls of A1111 and this farm; diffusers and ComfyUI must not make fewer."""
        return schedule_and_start(self.steps, self.strength)[1] + 1


def wishes(n: int, side: int, first: int, **schedule: Any) -> list[Wish]:
    """`n` wishes, numbered from `first`, so that no picture is the same as an earlier one.

    Args:
        schedule: `Wish.steps` and `Wish.strength`.
    """
    made = []
    for number in range(first, first + n):
        pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        made.append(Wish(png=data.getvalue(), side=side, seed=number, **schedule))
    return made


class Peer(Protocol):
    """A program that is running."""

    #: its processes, whose CPU time counts together with that of all that they have started
    processes: Sequence[int]

    def render(self, wanted: Sequence[Wish]) -> list[bytes]:
        """The pictures as PNG, all asked for at once."""


class BatchingPeer(Peer, Protocol):
    """A peer that renders pictures of one prompt together, and must be given the batch size."""

    batch: int
    #: the batch sizes to try
    batches: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of some pictures, in seconds."""

    cpu: float
    wall: float


def measured(peer: Peer, wanted: Sequence[Wish]) -> Cost:
    """A peer's cost for all pictures; the CPU time of this process, which makes the requests, is included.

    Raises:
        RuntimeError: not all of them came out.
    """
    cpu, wall = time.process_time() + cpu_of(peer), time.perf_counter()
    pictures = peer.render(wanted)
    cost = Cost(cpu=time.process_time() + cpu_of(peer) - cpu, wall=time.perf_counter() - wall)
    sizes = {Image.open(io.BytesIO(picture)).size for picture in pictures}
    if len(pictures) != len(wanted) or sizes != {(wanted[0].side, wanted[0].side)}:
        raise RuntimeError(f"{len(pictures)} pictures of {sizes} for {len(wanted)} wishes")
    return cost


def best_batch(peer: BatchingPeer, side: int, device: str, **schedule: Any) -> int:
    """The batch size at which a picture costs least (on a CPU in CPU time, else time); tries each twice."""
    costs: dict[int, float] = {}
    firsts = count(100_000, 1000)  # never the same picture again: ComfyUI caches results
    for batch in peer.batches:
        peer.batch = batch
        measured(
            peer, wishes(batch, side, next(firsts), **schedule)
        )  # the first may compile or choose kernels
        tries = [measured(peer, wishes(batch, side, next(firsts), **schedule)) for _ in range(2)]
        costs[batch] = min(each.cpu if device == "cpu" else each.wall for each in tries) / batch
    return min(costs, key=costs.__getitem__)


@contextmanager
def program(
    command: Sequence[str], log: Path, environment: Mapping[str, str], *, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process, ended with the context.

    Args:
        environment: beside this process'.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **environment}, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            yield process
        except Exception:
            print(log.read_text(errors="replace")[-2000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait()


def until(process: subprocess.Popen[bytes], is_there: Callable[[], object]) -> None:
    """Wait until it answers.

    Raises:
        RuntimeError: the process has ended, or does not come.
    """
    end = time.monotonic() + PATIENCE
    while not is_there():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError("it does not come up")
        time.sleep(0.1)


def answers(url: str) -> bool:
    """Whether a server answers."""
    try:
        return httpx.get(url, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


def cpu_of(peer: Peer) -> float:
    """CPU seconds of all of a peer's processes."""
    return sum(_cpu_of(pid) for pid in peer.processes)


def _cpu_of(pid: int) -> float:
    used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(map(int, used[11:15])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(_cpu_of(int(child)) for child in children)
