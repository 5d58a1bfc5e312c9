"""DPM-Solver of up to the third order, with ancestral noise: Lu et al. (2022), arXiv:2206.00927.

Only the first sigma, the last one and their number matter. Formulas and options are k-diffusion's, as
AUTOMATIC1111 1.10 calls them.
"""

from collections.abc import Generator
from itertools import pairwise
from math import atan, exp, expm1, isfinite, log, sqrt
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from img2img_worker.sampling.levels import Array
from img2img_worker.sampling.ode import slope
from img2img_worker.sampling.sde import ancestral
from img2img_worker.sampling.vectors import LiveNoise, LiveSteps, Model, Noise, Vector

#: a vector of coefficients, or a latent
X = TypeVar("X", Vector, Tensor)

#: of the adaptive step: relative and absolute tolerance; first length, in log sigma; least factor from a
#: step's length to the next one's, below which the step is done again
RTOL, ATOL, FIRST_LENGTH, ACCEPTED = 0.05, 0.0078, 0.05, 0.81
#: most model calls of one image
MOST_CALLS = 3000


def dpm_fast(
    model: Model, x: Vector, sigmas: Array, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Vector:
    """DPM-Solver-fast: as many model calls as steps, three for each step of third order, and a rest."""
    calls = len(sigmas) - 1
    n = calls // 3 + 1
    orders = [3] * (n - 2) + [2, 1] if calls % 3 == 0 else [3] * (n - 1) + [calls % 3]
    path = np.geomspace(sigmas[0], sigmas[-1], n + 1)
    for order, (sigma, sigma_next) in zip(orders, pairwise(path), strict=True):
        down, up = _ancestral_above(sigma, sigma_next, sigmas[-1], eta)
        if order == 3:
            _, x = _answered(third_order(x, sigma, down), model)
        else:
            x = (first_order if order == 1 else second_order)(model, x, sigma, down)
        x = x + s_noise * up * noise(sigma, sigma_next)
    return x


def dpm_adaptive(x: Tensor, noise: LiveNoise, *, sigmas: Array, eta: float = 1.0) -> LiveSteps:
    """DPM-Solver-23: steps so long that second and third order still agree; a longer one is done again.

    Args:
        x: float32 [C, h, w], as is what is yielded and returned.

    Raises:
        ArithmeticError: the answers are not finite, or `MOST_CALLS` did not suffice.
    """
    time, end, length = -log(sigmas[0]), -log(sigmas[-1]), FIRST_LENGTH
    lower = x
    for _ in range(MOST_CALLS // 3):
        if time >= end - 1e-5:
            return x
        sigma, sigma_next = exp(-time), exp(-min(end, time + length))
        down, up = _ancestral_above(sigma, sigma_next, sigmas[-1], eta)
        low, high = yield from third_order(x, sigma, down)
        tolerance = torch.maximum(low.abs(), lower.abs()).mul_(RTOL).clamp_(min=ATOL)
        error = float(torch.linalg.vector_norm((low - high) / tolerance)) / sqrt(x.numel())
        if not isfinite(error):
            raise ArithmeticError("the model's answers are not finite")
        # ancestral noise makes the error one of order 1.5
        factor = 1 + atan((1 / (error + 1e-8)) ** (1 / (1.5 if eta else 3)) - 1)
        if factor >= ACCEPTED:
            lower, x = low, high + up * noise(sigma, sigma_next)
            time = -log(sigma_next)
        length *= factor
    raise ArithmeticError(f"DPM adaptive found no end in {MOST_CALLS} model calls")


def _ancestral_above(sigma: float, sigma_next: float, last: float, eta: float) -> tuple[float, float]:
    """(down, up) of an ancestral step, of which `down` is not below the last sigma."""
    down = max(ancestral(sigma, sigma_next, eta)[0], last)
    return down, sqrt(max(sigma_next**2 - down**2, 0.0))


def first_order(model: Model, x: Vector, sigma: float, sigma_next: float) -> Vector:
    """DPM-Solver-1, which is DDIM."""
    return x + (sigma_next - sigma) * slope(x, sigma, model(x, sigma))


def second_order(model: Model, x: Vector, sigma: float, sigma_next: float) -> Vector:
    """DPM-Solver-2, its inner step at half of log sigma."""
    inner = sqrt(sigma * sigma_next)
    d = slope(x, sigma, model(x, sigma))
    ahead = x + (inner - sigma) * d
    bend = slope(ahead, inner, model(ahead, inner)) - d
    return x + (sigma_next - sigma) * d - (sigma - sigma_next) * bend


def third_order(x: X, sigma: float, sigma_next: float) -> Generator[tuple[X, float], Any, tuple[X, X]]:
    """DPM-Solver-3, its inner steps at a third and two thirds of log sigma; yields (x, sigma) of each call.

    Returns:
        what DPM-Solver-2 makes of the first two answers, and DPM-Solver-3 of all.
    """
    h = log(sigma / sigma_next)
    third, two_thirds = (sigma * (sigma_next / sigma) ** r for r in (1 / 3, 2 / 3))
    d = (x - (yield x, sigma)) / sigma
    ahead = x + (third - sigma) * d
    bend = (ahead - (yield ahead, third)) / third - d
    straight = x + (sigma_next - sigma) * d
    low = straight - 1.5 * (sigma - sigma_next) * bend
    ahead = x + (two_thirds - sigma) * d - two_thirds * 2 * (expm1(2 * h / 3) / (2 * h / 3) - 1) * bend
    bend = (ahead - (yield ahead, two_thirds)) / two_thirds - d
    return low, straight - sigma_next * 1.5 * (expm1(h) / h - 1) * bend


def _answered(
    steps: Generator[tuple[Vector, float], Vector, tuple[Vector, Vector]], model: Model
) -> tuple[Vector, Vector]:
    """The return value of `steps`, whose calls `model` answers."""
    call = next(steps)
    while True:
        try:
            call = steps.send(model(*call))
        except StopIteration as end:
            answer: tuple[Vector, Vector] = end.value
            return answer
