"""Samplers that follow the probability flow: Karras et al. (2022), DPM-Solver++, PLMS, Restart.

Each takes model, first latent, descending sigmas and noise, and returns the last latent. Formulas and options
are k-diffusion's, as AUTOMATIC1111 1.10 calls them, unless a line says otherwise.
"""

from collections.abc import Iterable
from itertools import pairwise
from math import expm1, inf, log, sqrt

import numpy as np

from img2img_worker.sampling.levels import Array
from img2img_worker.sampling.schedules import karras_ramp
from img2img_worker.sampling.vectors import Model, Noise, Vector


def slope(x: Vector, sigma: float, denoised: Vector) -> Vector:
    """dx/dsigma of the probability flow: Karras et al. (2022), equation 3."""
    return (x - denoised) / sigma


def churn(
    x: Vector,
    sigmas: Array,
    i: int,
    noise: Noise,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = inf,
    s_noise: float = 1.0,
) -> tuple[Vector, float]:
    """(x, sigma) with some new noise added: Karras et al. (2022), algorithm 2, lines 4 to 6."""
    sigma = sigmas[i]
    # drawn at every step, used or not, so that later draws do not depend on s_tmin and s_tmax
    fresh = noise(sigma, sigma)
    if not s_tmin <= sigma <= s_tmax or not s_churn:
        return x, sigma
    raised = sigma * (1 + min(s_churn / (len(sigmas) - 1), sqrt(2) - 1))
    return x + s_noise * sqrt(raised**2 - sigma**2) * fresh, raised


def euler(model: Model, x: Vector, sigmas: Array, noise: Noise, **churning: float) -> Vector:
    """Karras et al. (2022), algorithm 2 with Euler steps."""
    for i, sigma_next in enumerate(sigmas[1:]):
        x, sigma = churn(x, sigmas, i, noise, **churning)
        x = x + (sigma_next - sigma) * slope(x, sigma, model(x, sigma))
    return x


def heun(model: Model, x: Vector, sigmas: Array, noise: Noise, **churning: float) -> Vector:
    """Karras et al. (2022), algorithm 2."""
    for i, sigma_next in enumerate(sigmas[1:]):
        x, sigma = churn(x, sigmas, i, noise, **churning)
        x = heun_step(model, x, sigma, sigma_next)
    return x


def heun_step(model: Model, x: Vector, sigma: float, sigma_next: float) -> Vector:
    """A step by the trapezoid rule; the step to 0 is Euler's."""
    d = slope(x, sigma, model(x, sigma))
    ahead = x + (sigma_next - sigma) * d
    if sigma_next == 0:
        return ahead
    d_ahead = slope(ahead, sigma_next, model(ahead, sigma_next))
    return x + (sigma_next - sigma) * (d + d_ahead) / 2


def dpm_2(model: Model, x: Vector, sigmas: Array, noise: Noise, **churning: float) -> Vector:
    """DPM-Solver-2, Lu et al. (2022), arXiv:2206.00927, with churn."""
    for i, sigma_next in enumerate(sigmas[1:]):
        x, sigma = churn(x, sigmas, i, noise, **churning)
        x = midpoint_step(model, x, sigma, sigma_next)
    return x


def midpoint_step(model: Model, x: Vector, sigma: float, sigma_next: float) -> Vector:
    """A step by the midpoint rule, with the midpoint in log sigma; the step to 0 is Euler's."""
    d = slope(x, sigma, model(x, sigma))
    if sigma_next == 0:
        return x - sigma * d
    middle = sqrt(sigma * sigma_next)
    halfway = x + (middle - sigma) * d
    return x + (sigma_next - sigma) * slope(halfway, middle, model(halfway, middle))


def lms(model: Model, x: Vector, sigmas: Array, _noise: Noise, *, order: int = 4) -> Vector:
    """Linear multistep (Adams–Bashforth) on the given sigmas."""
    slopes: list[Vector] = []  # newest first
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        slopes = [slope(x, sigma, model(x, sigma)), *slopes[: order - 1]]
        nodes = sigmas[i::-1][: len(slopes)] - sigma
        weights = [_lagrange_integral(nodes, j, sigma_next - sigma) for j in range(len(slopes))]
        x = x + combined(weights, slopes)
    return x


def plms(model: Model, x: Vector, sigmas: Array, _noise: Noise) -> Vector:
    """Pseudo linear multistep: Liu et al. (2022), arXiv:2202.09778, with an improved Euler step first.

    The weights are those for even steps in time, whatever the sigmas.
    """
    slopes: list[Vector] = []  # newest first
    for sigma, sigma_next in pairwise(sigmas):
        slopes = [slope(x, sigma, model(x, sigma)), *slopes[:3]]
        if len(slopes) > 1:
            direction = combined(_ADAMS_BASHFORTH[len(slopes)], slopes)
        else:
            ahead = x + (sigma_next - sigma) * slopes[0]
            direction = (slopes[0] + slope(ahead, sigma_next, model(ahead, sigma_next))) / 2
        x = x + (sigma_next - sigma) * direction
    return x


#: by order, the newest slope first
_ADAMS_BASHFORTH = {
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def _lagrange_integral(nodes: Array, j: int, end: float) -> float:
    """The integral from 0 to `end` of the polynomial that is 1 at nodes[j] and 0 at the other nodes."""
    others = np.delete(nodes, j)
    through = np.atleast_1d(np.poly(others)) / np.prod(nodes[j] - others)
    return float(np.polyval(np.polyint(through), end))


def dpmpp_2m(model: Model, x: Vector, sigmas: Array, _noise: Noise) -> Vector:
    """DPM-Solver++(2M), Lu et al. (2022), arXiv:2211.01095, algorithm 2."""
    previous, h_last = None, 0.0
    for sigma, sigma_next in pairwise(sigmas):
        denoised = extrapolated = model(x, sigma)
        h = log(sigma / sigma_next) if sigma_next else inf
        if previous is not None and sigma_next:
            extrapolated = denoised + (denoised - previous) * h / (2 * h_last)
        x = sigma_next / sigma * x - expm1(-h) * extrapolated
        previous, h_last = denoised, h
    return x


def combined(weights: Iterable[float], vectors: list[Vector]) -> Vector | float:
    """The weighted sum."""
    return sum(weight * vector for weight, vector in zip(weights, vectors, strict=True))


def restart(model: Model, x: Vector, sigmas: Array, noise: Noise) -> Vector:
    """Heun steps on a Karras schedule, which goes back up from 0.1 to 2: Xu et al. (2023), arXiv:2306.14878.

    A1111's choice of restarts: none below 20 steps, one of 9 steps below 36, then two of a quarter of the
    steps.
    """
    steps = len(sigmas) - 1
    length, times = (steps // 4, 2) if steps >= 36 else (9, 1) if steps >= 20 else (0, 0)
    if times:
        sigmas = np.append(karras_ramp(steps - length * times, sigmas[-2], sigmas[0]), 0.0)
    low, high = (int(np.argmin(np.abs(sigmas - level))) for level in (0.1, 2.0))
    again = karras_ramp(length + 1, sigmas[low], sigmas[high])
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x = heun_step(model, x, sigma, sigma_next)
        for _ in range(times if i + 1 == low and high < low else 0):
            x = x + sqrt(again[0] ** 2 - again[-1] ** 2) * noise(again[-1], again[0])
            for above, below in pairwise(again):
                x = heun_step(model, x, above, below)
    return x
