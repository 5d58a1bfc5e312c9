"""How many slots serve a device best: found by rendering."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

import numpy as np
import torch

from img2img_shared.errors import FarmError
from img2img_shared.params import Params
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.render import Pixels, Render
from img2img_worker.models.families.family import Family

log = logging.getLogger(__name__)

#: slots that are tried, at most
MOST_GPU, MOST_CPU = 128, 8
#: pixels of a picture's side that is rendered for it: the largest that is often wanted there
SIDE_GPU, SIDE_CPU = 1024, 512
#: model calls of such a picture
STEPS = 3
#: more slots must save this share of a picture's time, since each also costs memory
GAIN = 0.05


def find_slots(
    family: Family,
    *,
    deterministic: bool | None = None,
    side: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """The slots beyond which twice as many save no time on a picture, or memory runs out.

    Renders pictures of `side` pixels with 1, 2, 4, ... slots, each number twice: the first time pays for
    what is done once.

    Args:
        side: by default 1024 on a GPU and 512 on a CPU.
        clock: tells seconds.
    """
    on_cpu = family.device.type == "cpu"
    side = side or (SIDE_CPU if on_cpu else SIDE_GPU)
    best, pace = 1, float("inf")
    slots = 1
    while slots <= (MOST_CPU if on_cpu else MOST_GPU):
        with Engine(family, slots=slots, deterministic=deterministic) as engine:
            renders = [_render(seed, side, family.vae_factor) for seed in range(2 * slots + 1)]
            seconds = 0.0
            for half in (renders[1 : slots + 1], renders[slots + 1 :]):
                seconds = _seconds(engine, renders[0], half, clock) / slots
        if seconds == float("inf"):
            log.info("%d slots: out of memory at %d × %d", slots, side, side)
            break
        log.info("%d slots: %.3g s a picture of %d × %d, %d steps", slots, seconds, side, side, STEPS)
        if seconds > (1 - GAIN) * pace:
            break
        best, pace = slots, seconds
        slots *= 2
    if family.device.type == "cuda":
        torch.cuda.empty_cache()
    return best


def _seconds(engine: Engine, first: Render, renders: Sequence[Render], clock: Callable[[], float]) -> float:
    """How long it takes to render one in each slot, all together; infinite where memory is short."""
    ready, all_there = threading.Event(), threading.Event()

    def hold(_done: int, _total: int) -> None:
        ready.set()
        all_there.wait()
        raise FarmError("this image has done its duty: the others can go in step")

    held = engine.submit(first, hold)
    held.add_done_callback(lambda _: ready.set())  # where memory is short even for one
    ready.wait()
    futures = [engine.submit(render) for render in renders]
    began = clock()
    all_there.set()
    wait([held, *futures])
    fits = all(_is_whole(future) for future in futures) and engine.limit == engine.slots
    return clock() - began if fits else float("inf")


def _is_whole(future: Future[Pixels]) -> bool:
    error = future.exception()
    if error is not None and not isinstance(error, MemoryError):
        raise error
    return error is None


def _render(seed: int, side: int, vae_factor: int) -> Render:
    # pixels of its own, so that each is encoded
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    cells = side // vae_factor
    params = Params(width=side, height=side, steps=STEPS, denoising_strength=1)
    return Render(
        params=params,
        prompt="",
        negative_prompt="",
        seed=seed,
        subseed=0,
        pixels=pixels,
        latent_size=(cells, cells),
    )
