"""Faults that a worker process does to itself at a chosen point: real signals, at a real moment."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from img2img_shared.ledger import Ledger
from img2img_shared.store import Store
from img2img_worker.farm import render
from img2img_worker.models.stable_diffusion import StableDiffusion

#: where the blow falls: (the owner of a function, its name)
PHASES: dict[str, tuple[Any, str]] = {
    "between taking a ticket and claiming": (render.Renderer, "_claim"),
    "while preparing": (render, "prepare"),
    "in the model": (StableDiffusion, "predict"),
    "while writing the picture": (Store, "put"),
    "between the write and the report": (Ledger, "finish"),
}


def arm(phase: str, blow: str, after: int, marker: str) -> None:
    """The `after`-th time this farm's workers get to `phase`, the one that does is struck.

    Args:
        blow: "KILL" or "STOP", as a signal of that name.
        marker: a file that all workers of the farm share; who creates it is struck, so it happens once.
    """
    owner, name = PHASES[phase]
    original = getattr(owner, name)
    count = 0
    lock = threading.Lock()

    def struck(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        with lock:
            count += 1
            now = count >= after and _first(marker)
        if now and phase == "while writing the picture":
            # the write runs in a thread of the store's own: let it begin
            threading.Timer(0.0005, _strike, [blow]).start()
        elif now:
            _strike(blow)
        return original(*args, **kwargs)

    setattr(owner, name, struck)


def poison(size: int) -> None:
    """Each time this worker renders a picture of `size` × `size` pixels, it dies."""
    original: Callable[..., Any] = getattr(render, "prepare")  # noqa: B009  # render does not export it

    def struck(image: bytes, *args: Any, **kwargs: Any) -> Any:
        prepared = original(image, *args, **kwargs)
        if int.from_bytes(image[16:20], "big") == size:  # a PNG's width
            _strike("KILL")
        return prepared

    setattr(render, "prepare", struck)  # noqa: B010  # as a user of the name would see it


def shift_clock(seconds: int) -> None:
    """This worker's clock is so many seconds ahead."""
    true = time.time
    time.time = lambda: true() + seconds


def _first(marker: str) -> bool:
    try:
        Path(marker).open("x").close()
    except FileExistsError:
        return False
    return True


def _strike(blow: str) -> None:
    os.kill(os.getpid(), signal.Signals[f"SIG{blow}"])
