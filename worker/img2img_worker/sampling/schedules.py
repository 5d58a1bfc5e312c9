"""Schedules: the noise levels that a run visits, as in AUTOMATIC1111 1.10.

To add one, write a function `(n, levels) -> sigmas` here, and an entry in
`img2img_shared.samplers.SCHEDULERS` that names it. Each gives n descending sigmas and a final 0, except for
two that follow A1111 to the letter: KL Optimal ends at sigma_min, and DDIM gives as many as its whole-number
stride reaches. The sigmas are numbers of single precision (`levels` says why).
"""

from collections.abc import Callable
from dataclasses import replace
from math import log

import numpy as np
import torch
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_shared.samplers import SCHEDULERS
from img2img_worker.sampling.levels import Array, NoiseLevels

#: https://research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html
ALIGN_YOUR_STEPS = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
ALIGN_YOUR_STEPS_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


def sigmas(
    scheduler: str,
    steps: int,
    levels: NoiseLevels,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    **options: float,
) -> Array:
    """Descending sigmas of a run of `steps` steps, [steps + 1] (see above for the two that differ).

    Args:
        sigma_min, sigma_max: its ends; None: the model's.
        options: rho, or alpha and beta, if the schedule has them.

    Raises:
        Refused: these levels do not have the schedule, or sigma_min is not below sigma_max.
    """
    scheduled = levels.scheduled
    ends = (sigma_min or scheduled.sigma_min, sigma_max or scheduled.sigma_max)
    if not ends[0] < ends[1]:
        raise Refused("sigma_min, sigma_max", ends, "give a sigma_min below sigma_max")
    function = _FUNCTIONS[SCHEDULERS[scheduler].name]
    return levels.exploding(function(steps, replace(scheduled, ends=ends), **options))


def uniform(n: int, levels: NoiseLevels) -> Array:
    """Evenly spaced timesteps from the last to the first."""
    return _closed(levels.t_to_sigma(torch.linspace(levels.timesteps[-1], levels.timesteps[0], n)))


def karras(n: int, levels: NoiseLevels, rho: float = 7.0) -> Array:
    """Evenly spaced in sigma^(1 / rho): Karras et al. (2022), equation 5."""
    return _closed(karras_ramp(n, levels.sigma_min, levels.sigma_max, rho))


def karras_ramp(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Array:
    """n sigmas from sigma_max down to sigma_min, without the final 0."""
    ramp = torch.linspace(0, 1, n)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _double((high + ramp * (low - high)) ** rho)


def exponential(n: int, levels: NoiseLevels) -> Array:
    """Evenly spaced in log sigma."""
    return _closed(_double(torch.linspace(log(levels.sigma_max), log(levels.sigma_min), n).exp()))


def polyexponential(n: int, levels: NoiseLevels, rho: float = 1.0) -> Array:
    """A polynomial in log sigma; with a rho of 1 the exponential schedule."""
    ramp = torch.linspace(1, 0, n) ** rho
    low, high = log(levels.sigma_min), log(levels.sigma_max)
    return _closed(_double((ramp * (high - low) + low).exp()))


def sgm_uniform(n: int, levels: NoiseLevels) -> Array:
    """Evenly spaced timesteps without the last one, that of sigma_min (Stability's generative-models)."""
    return _closed(levels.t_to_sigma(torch.linspace(*_ends(levels), n + 1)[:-1]))


def normal(n: int, levels: NoiseLevels) -> Array:
    """Evenly spaced timesteps from that of sigma_max to that of sigma_min."""
    return _closed(levels.t_to_sigma(torch.linspace(*_ends(levels), n)))


def simple(n: int, levels: NoiseLevels) -> Array:
    """Evenly spaced levels from the last, rounded down; the first level is not reached."""
    stride = len(levels.sigmas) / n
    return _closed(levels.sigmas[[-(1 + int(step * stride)) for step in range(n)]])


def ddim(n: int, levels: NoiseLevels) -> Array:
    """Levels from the second on at a whole-number stride, which may be more or fewer than n."""
    stride = max(len(levels.sigmas) // n, 1)
    return _closed(levels.sigmas[1::stride][::-1])


def beta(n: int, levels: NoiseLevels, alpha: float = 0.6, beta: float = 0.6) -> Array:
    """Quantiles of a beta distribution over [sigma_min, sigma_max]: Lee et al. (2024), arXiv:2407.12173."""
    from scipy.special import betaincinv  # imported here: it takes a quarter of a second

    quantiles = betaincinv(alpha, beta, 1 - np.linspace(0, 1, n))
    return _closed(levels.sigma_min + quantiles * (levels.sigma_max - levels.sigma_min))


def align_your_steps(n: int, levels: NoiseLevels) -> Array:
    """Levels optimised for ten steps by Sabour et al. (2024), log-linear between them for other numbers."""
    table = np.array(ALIGN_YOUR_STEPS_SDXL if levels.is_sdxl else ALIGN_YOUR_STEPS)
    if n == len(table):
        return _closed(table)
    # evenly spaced from the low end, as published: a single step is at the lowest level
    where, places = np.linspace(0, 1, n), np.linspace(0, 1, len(table))
    return _closed(np.exp(np.interp(where, places, np.log(table[::-1])))[::-1])


def kl_optimal(n: int, levels: NoiseLevels) -> Array:
    """Evenly spaced in arctan sigma, in n steps to sigma_min, without a final 0: Sabour et al. (2024)."""
    low, high = torch.arctan(torch.tensor([levels.sigma_min, levels.sigma_max]))
    step = torch.arange(n + 1)
    return _double(torch.tan(step / n * low + (1.0 - step / n) * high))


def _ends(levels: NoiseLevels) -> tuple[float, float]:
    return levels.sigma_to_t(levels.sigma_max), levels.sigma_to_t(levels.sigma_min)


def _double(sigmas: Tensor) -> Array:
    return np.asarray(sigmas, dtype=np.float64)


def _closed(descending: Array) -> Array:
    """The sigmas in single precision, and 0."""
    return np.append(descending.astype(np.float32).astype(np.float64), 0.0)


_FUNCTIONS: dict[str, Callable[..., Array]] = {
    function.__name__: function
    for function in (
        uniform,
        karras,
        exponential,
        polyexponential,
        sgm_uniform,
        kl_optimal,
        align_your_steps,
        simple,
        normal,
        ddim,
        beta,
    )
}
