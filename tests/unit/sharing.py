"""Compares rows and images that share model calls with the same ones computed alone."""

import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from img2img_worker.engine.engine import Engine, Pixels, Render
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.stable_diffusion import StableDiffusion


def answers_as_alone(
    family: StableDiffusion,
    rows: Sequence[Condition],
    x: Tensor,
    t: Tensor,
    *,
    tolerance: float | None = None,
) -> Tensor:
    """The outputs for the rows of one call, in order; each has been compared with that row's alone.

    Args:
        tolerance: absolute and relative; None: torch's own.
    """
    order = sorted(range(len(rows)), key=lambda place: rows[place].length)
    together = family.predict(x[order], t[order], Conditions.stack([rows[i] for i in order]))
    answers = torch.empty_like(together)
    answers[order] = together
    for i, row in enumerate(rows):
        alone = family.predict(x[i : i + 1], t[i : i + 1], Conditions.stack([row]))
        torch.testing.assert_close(answers[i : i + 1], alone, rtol=tolerance, atol=tolerance)
    return answers


def pictures_as_alone(
    family: StableDiffusion, renders: Sequence[Render], *, deterministic: bool
) -> list[Pixels]:
    """The results of renders that share their calls; each has been compared with that render's alone."""
    held = threading.Event()

    def hold(_done: int, _total: int) -> None:
        held.wait()

    with Engine(family, slots=len(renders), deterministic=deterministic) as engine:
        first = engine.submit(renders[0], hold)
        futures = [first, *(engine.submit(each) for each in renders[1:])]
        held.set()
        together: list[Pixels] = [future.result() for future in futures]
        counts = engine.counts
    if not deterministic:  # in that mode each image is also called alone, until they are known to be equal
        assert counts.calls < counts.image_calls
    for one, pixels in zip(renders, together, strict=True):
        with Engine(family, slots=len(renders), deterministic=deterministic) as engine:
            apart = engine.submit(one).result()
        if deterministic:
            np.testing.assert_array_equal(pixels, apart)
        assert np.abs(pixels.astype(int) - apart).max() <= 1
    return together
