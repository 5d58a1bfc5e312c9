"""DPM-Solver of up to the third order, with ancestral noise: Lu et al. (2022), arXiv:2206.00927.

Arguments as of the samplers in `ode`; of the sigmas only the first, the last and their number count. Formulas
and options are k-diffusion's, as AUTOMATIC1111 1.10 calls them.
"""

from itertools import pairwise
from math import expm1, log, sqrt

import numpy as np

from img2img_worker.sampling.levels import Array
from img2img_worker.sampling.ode import slope
from img2img_worker.sampling.sde import ancestral
from img2img_worker.sampling.vectors import Model, Noise, Vector


def dpm_fast(
    model: Model, x: Vector, sigmas: Array, noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Vector:
    """DPM-Solver-fast: as many calls of the model as there are steps, in steps of the third order and a rest.

    Raises:
        ValueError: noise is to be added where there is no way to go.
    """
    calls = len(sigmas) - 1
    n = calls // 3 + 1
    orders = [3] * (n - 2) + [2, 1] if calls % 3 == 0 else [3] * (n - 1) + [calls % 3]
    if eta and not sigmas[0] > sigmas[-1]:
        raise ValueError("no way to go")
    for order, (sigma, sigma_next) in zip(
        orders, pairwise(np.geomspace(sigmas[0], sigmas[-1], n + 1)), strict=True
    ):
        down, up = _ancestral_above(sigma, sigma_next, sigmas[-1], eta)
        x = _STEPS[order](model, x, sigma, down)
        x = x + s_noise * up * noise(sigma, sigma_next)
    return x


def _ancestral_above(sigma: float, sigma_next: float, last: float, eta: float) -> tuple[float, float]:
    """(down, up) of an ancestral step that goes down no further than to the last sigma."""
    down = max(ancestral(sigma, sigma_next, eta)[0], last)
    return down, sqrt(max(sigma_next**2 - down**2, 0.0))


def first_order(model: Model, x: Vector, sigma: float, sigma_next: float) -> Vector:
    """DPM-Solver-1, which is DDIM."""
    return x + (sigma_next - sigma) * slope(x, sigma, model(x, sigma))


def second_order(model: Model, x: Vector, sigma: float, sigma_next: float, r: float = 1 / 2) -> Vector:
    """DPM-Solver-2, its inner step at the part r of log sigma."""
    h = log(sigma / sigma_next)
    inner = sigma * (sigma_next / sigma) ** r
    d = slope(x, sigma, model(x, sigma))
    ahead = x + (inner - sigma) * d
    bend = slope(ahead, inner, model(ahead, inner)) - d
    return x + (sigma_next - sigma) * d - sigma_next * expm1(h) / (2 * r) * bend


def third_order(model: Model, x: Vector, sigma: float, sigma_next: float) -> Vector:
    """DPM-Solver-3, its inner steps at a third and two thirds of log sigma."""
    h = log(sigma / sigma_next)
    third, two_thirds = (sigma * (sigma_next / sigma) ** r for r in (1 / 3, 2 / 3))
    d = slope(x, sigma, model(x, sigma))
    ahead = x + (third - sigma) * d
    bend = slope(ahead, third, model(ahead, third)) - d
    ahead = x + (two_thirds - sigma) * d - two_thirds * 2 * (expm1(2 * h / 3) / (2 * h / 3) - 1) * bend
    bend = slope(ahead, two_thirds, model(ahead, two_thirds)) - d
    return x + (sigma_next - sigma) * d - sigma_next * 3 / 2 * (expm1(h) / h - 1) * bend


_STEPS = {1: first_order, 2: second_order, 3: third_order}
