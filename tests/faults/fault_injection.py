"""Faults that a worker process inflicts on itself at a chosen point: real signals, at a real moment."""

import ctypes
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import torch
from PIL import Image
from torch import Tensor

from img2img_shared import wire
from img2img_shared.ledger import Ledger
from img2img_shared.pushed_models import download
from img2img_shared.pushed_models.model_objects import ModelObjects
from img2img_shared.pushed_models.pushed_model import PushedModel
from img2img_shared.store import Store
from img2img_worker.farm import claim_loop, model_loader, picture_recipe, shutdown
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.stable_diffusion import StableDiffusion

#: where the fault happens: (the owner of a function, its name)
PHASES: dict[str, tuple[Any, str]] = {
    "between taking a ticket and claiming": (claim_loop.ClaimLoop, "_claim"),
    "while preparing": (picture_recipe, "prepare"),
    "in the model": (StableDiffusion, "predict"),
    "while writing the picture": (Store, "put"),
    "between the write and the report": (Ledger, "finish"),
}


def arm(phase: str, blow: str, after: int, marker: str) -> None:
    """The `after`-th time that one of this farm's workers reaches `phase`, the fault hits it.

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
            # the store writes in a thread of its own: let it begin
            threading.Timer(0.0005, _strike, [blow]).start()
        elif now:
            _strike(blow)
        return original(*args, **kwargs)

    setattr(owner, name, struck)


def dying_load(name: str, marker: str) -> None:
    """The first worker of the farm that loads the model whose path ends with `name` dies of it."""
    original = model_loader.ModelLoader.load

    def load(self: model_loader.ModelLoader, model: str) -> Any:
        if model.endswith(name) and _first(marker):
            _strike("KILL")
        return original(self, model)

    setattr(model_loader.ModelLoader, "load", load)  # noqa: B010  # mypy lets no method be replaced


def note_begun(log: str) -> None:
    """This worker records each image that it begins."""
    original: Any = getattr(claim_loop, "files_of")  # noqa: B009  # it is imported there

    def files_of(held: Any, *args: Any) -> Any:
        with Path(log).open("a") as file:
            file.write(f"{held.claim.index}\n")
        return original(held, *args)

    setattr(claim_loop, "files_of", files_of)  # noqa: B010  # mypy lets no function be replaced


def slow_fetch(log: str, dies: str | None = None) -> None:
    """This worker fetches models in parts of a megabyte, and records where each part begins.

    Args:
        dies: a file that all workers of the farm share; who creates it dies at the second megabyte.
    """
    original = ModelObjects.read

    def read(self: ModelObjects, model: PushedModel, start: int, size: int) -> bytes:
        if start and dies is not None and _first(dies):
            _strike("KILL")
        with Path(log).open("a") as file:
            file.write(f"{start}\n")
        return original(self, model, start, size)

    download.PIECE = 2**20
    setattr(ModelObjects, "read", read)  # noqa: B010  # mypy lets no method be replaced


def poison(size: int) -> None:
    """Each time this worker renders a picture of `size` × `size` pixels, it dies."""
    _before_prepare(lambda image: _strike("KILL") if image.width == size else None)


def starve(size: int) -> None:
    """This worker has no memory for pictures of `size` × `size` pixels."""

    def check(image: Image.Image) -> None:
        if image.width == size:
            raise MemoryError

    _before_prepare(check)


def small_device(rows: int) -> None:
    """The device of this worker has memory for a limited number of rows in a model call."""

    def check(x: Tensor) -> None:
        if len(x) > rows:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(x)} rows.")

    _before_predict(check)


def broken_device(width: int) -> None:
    """Pictures of that width break the device of this worker, as an illegal address in a kernel does."""
    broken = threading.Event()

    def check(x: Tensor) -> None:
        if 8 * x.shape[-1] == width:
            broken.set()
        if broken.is_set():
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    _before_predict(check)


def breaking_device(after: int, marker: str) -> None:
    """The device of this worker fails for good after some model calls; the worker then leaves a file."""
    calls = itertools.count()

    def check(_: Tensor) -> None:
        if next(calls) >= after:
            _first(marker)
            raise torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered")

    _before_predict(check)


def failing_store(number: int, marker: str) -> None:
    """This worker's writes to its store fail with a system error while the file is there."""
    original = obstore.put

    def put(*args: Any, **kwargs: Any) -> Any:
        if Path(marker).exists():
            raise OSError(number, os.strerror(number))
        return original(*args, **kwargs)

    setattr(obstore, "put", put)  # noqa: B010  # mypy lets no function be replaced


def hanging_store(marker: str) -> None:
    """This worker's reads of pictures from its store never return; the first one leaves a file."""

    def get_picture(*_: object) -> bytes:
        _first(marker)
        threading.Event().wait()
        return b""

    setattr(Store, "get_picture", get_picture)  # noqa: B010  # mypy lets no method be replaced


def names(are_known: bool) -> None:
    """Set whether this process can resolve host names."""
    configure = ctypes.CDLL(None)["__nss_configure_lookup"]  # what /etc/nsswitch.conf says, for one process
    assert configure(b"hosts", b"files dns" if are_known else b"none") == 0


def forgotten_names(marker: str) -> None:
    """This worker cannot resolve host names while the file is there."""

    def watch() -> None:
        for are_lost in itertools.cycle((True, False)):
            while Path(marker).exists() != are_lost:
                time.sleep(0.01)
            names(not are_lost)

    threading.Thread(target=watch, daemon=True).start()


def broken_library(marker: str) -> None:
    """This worker cannot read any picture while the file is there."""

    def check(_: object) -> None:
        if Path(marker).exists():
            raise AttributeError("module 'zlib' has no attribute 'decompress'")

    _before_prepare(check)


def broken_size(size: int) -> None:
    """Pictures of `size` × `size` pixels raise an unforeseen error."""

    def check(image: Image.Image) -> None:
        if image.width == size:
            raise ArithmeticError(f"a picture of {size}")

    _before_prepare(check)


def forgetful(chance: float, seed: int) -> None:
    """This worker runs out of memory now and then, on the host or on the device."""
    draw = random.Random(seed)

    def check(_: object) -> None:
        if draw.random() < chance:
            raise draw.choice((MemoryError, torch.OutOfMemoryError))("drawn by chance")

    _before_prepare(check)
    _before_predict(check)


def stall(seconds: float, marker: str) -> None:
    """Each model call of this worker takes a given time; it leaves a file when the first one begins.

    But for the one with which it tries itself out before it claims anything.
    """
    calls = itertools.count()

    def check(_: Tensor) -> None:
        if next(calls):
            _first(marker)
            time.sleep(seconds)

    _before_predict(check)


def grace(seconds: float) -> None:
    """When it is told to end, this worker waits a given time for what hangs in it."""
    shutdown.GRACE = seconds


def shift_clock(seconds: int) -> None:
    """This worker's clock is some seconds ahead."""
    true = time.time
    time.time = lambda: true() + seconds


def newer(version: int) -> None:
    """This worker is of a later wire version."""
    wire.VERSION = version


def _before_prepare(check: Callable[[Image.Image], None]) -> None:
    original: Callable[..., Any] = getattr(picture_recipe, "prepare")  # noqa: B009  # it does not export it

    def checked(image: Image.Image, *args: Any, **kwargs: Any) -> Any:
        check(image)
        return original(image, *args, **kwargs)

    setattr(picture_recipe, "prepare", checked)  # noqa: B010  # as a user of the name would see it


def _before_predict(check: Callable[[Tensor], None]) -> None:
    original = StableDiffusion.predict

    def checked(family: StableDiffusion, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        check(x)
        return original(family, x, t, conditions)

    setattr(StableDiffusion, "predict", checked)  # noqa: B010  # mypy lets no method be replaced


def _first(marker: str) -> bool:
    try:
        Path(marker).open("x").close()
    except FileExistsError:
        return False
    return True


def _strike(blow: str) -> None:
    os.kill(os.getpid(), signal.Signals[f"SIG{blow}"])
