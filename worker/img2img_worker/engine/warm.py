"""Compiles what the engine will run: the network is called in every shape that is wanted."""

import logging
from collections.abc import Sequence

import torch

from img2img_shared.params import Params
from img2img_shared.refusals import read_params
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.family import Family
from img2img_worker.models.steps import run_now

log = logging.getLogger(__name__)

#: one piece of 75 tokens, and two: what most prompts need; longer ones run uncompiled
PROMPTS = ("", "a " * 100)
#: a CUDA graph is compiled for by the first call, recorded by the second and replayed by the third
CALLS = 3


def warm_up(family: Family, row_counts: Sequence[int], sizes: Sequence[tuple[int, int]]) -> None:
    """Calls the network with each number of rows, for pictures of each size and prompts of two lengths.

    Must run in the thread that renders: CUDA graphs belong to the thread that recorded them.

    Args:
        sizes: width and height in pixels.

    Raises:
        Refused: a size that no job can have, or that the family cannot render.
    """
    for width, height in sizes:
        read_params({"width": width, "height": height})
        family.levels(_cells(family, width, height))
    for width, height in sizes:
        shapes = _conditions(family, width, height)
        for n in row_counts:
            log.info("compiling for %d × %d, %d rows", width, height, n)
            for condition in shapes:
                _call(family, Conditions.stack([condition] * n), _cells(family, width, height))


def _call(family: Family, conditions: Conditions, cells: tuple[int, int]) -> None:
    n = len(conditions)
    x = torch.zeros(n, family.latent_channels, *cells, device=family.device)
    t = torch.full((n,), 500.5, device=family.device)
    # a graph for each shape of each part of the network; the limit is there to notice a runaway
    with torch.compiler.set_stance("default"), torch._dynamo.config.patch(recompile_limit=1000):
        for _ in range(CALLS):
            family.predict(x, t, conditions)


def _cells(family: Family, width: int, height: int) -> tuple[int, int]:
    """(h, w) of the latent."""
    return height // family.vae_factor, width // family.vae_factor


def _conditions(family: Family, width: int, height: int) -> list[Condition]:
    """One of each length."""
    pixels = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    pictures = run_now(family.picture(pixels, None))
    picture = None if pictures is None else pictures[0]
    params = Params(width=width, height=height)
    texts = [run_now(family.encode_prompts([prompt]))[0] for prompt in PROMPTS]
    conditions = [family.condition(text, params, picture=picture) for text in texts]
    return list({condition.length: condition for condition in conditions}.values())
