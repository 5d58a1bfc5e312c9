"""The sigmas that an image visits, by its schedule, its strength and its sampler."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from img2img_shared.errors import Refused
from img2img_shared.samplers import SAMPLERS, SCHEDULERS
from img2img_worker.sampling.levels import Array, NoiseLevels
from img2img_worker.sampling.plan_key import PlanKey
from img2img_worker.sampling.schedules import sigmas

#: longest schedule that is computed; `fix_steps` with a tiny strength would need a longer one, and is refused
T_MAX = 100_000
#: the ends of schedules in the oldest A1111, which `use_old_karras_scheduler_sigmas` restores
OLD_KARRAS = {"sigma_min": 0.1, "sigma_max": 10.0}


@dataclass(frozen=True, kw_only=True)
class Run:
    """The sigmas that one image visits, and its start."""

    #: [M + 1] descending; empty: no model is called
    sigmas: Array
    #: coefficients of z0 and of the first noise in the first latent
    first: tuple[float, float]
    #: lowest sigma above 0 and highest that a Brownian path covers
    span: tuple[float, float] = (0.0, 0.0)
    #: what the last latent is multiplied by
    scale_out: float = 1.0


def run_of(key: PlanKey, levels: NoiseLevels) -> Run:
    """The run for the parameters.

    Raises:
        Refused: the schedule does not have the start, or the levels do not have the schedule.
    """
    return _RUNS[SAMPLERS[key.sampler_name].run](key, levels)


def scheduled(key: PlanKey, levels: NoiseLevels) -> Run:
    """The last part of a schedule, as the denoising strength says."""
    steps, start = key.steps_and_start
    if steps > T_MAX:
        raise _too_long(key, T_MAX)
    whole = _schedule(key, steps + key.discards, levels)
    if key.discards:
        whole = np.delete(whole, -2)
    run = whole[steps - start - 1 :]
    if len(run) < 2:  # the DDIM schedule has no more sigmas than the model has levels
        raise _too_long(key, len(levels.sigmas))
    covered = run if key.no_dpmpp_sde_batch_determinism else whole
    return Run(
        sigmas=run,
        first=_first(key, run[0]),
        span=(float(covered[covered > 0].min()), float(covered.max())),
    )


def ends(key: PlanKey, levels: NoiseLevels) -> Run:
    """A run between the ends of a schedule, in as many steps; in txt2img, between the model's ends."""
    run = scheduled(key, levels)
    first, last = run.sigmas[0], run.sigmas[-2]
    if key.txt2img:
        first, last = levels.sigma_max, levels.sigma_min
    elif first == last and key.options["eta"]:
        raise Refused(
            "denoising_strength",
            key.denoising_strength,
            "use more, so that two of the steps are run, or eta 0",
        )
    elif first == last and SAMPLERS[key.sampler_name].adaptive:
        return Run(sigmas=np.zeros(0), first=run.first)  # it starts at its end
    return Run(sigmas=np.geomspace(first, last, len(run.sigmas)), first=run.first)


def timesteps(key: PlanKey, levels: NoiseLevels) -> Run:
    """Whole timesteps, down to the second level.

    As in A1111, the latent is noised to the level above the one at which the run begins.
    """
    visited, noised_to = _timesteps(key, levels)
    return _preserved(key, levels.sigmas[visited[::-1]], float(levels.sigmas[noised_to]))


def uni_pc(key: PlanKey, levels: NoiseLevels) -> Run:
    """From the start of `timesteps` to the first level in as many steps: even in time, its root or log sigma.

    Raises:
        Refused: there are fewer steps than the order.
    """
    visited, noised_to = _timesteps(key, levels)
    n, total = len(visited), len(levels.sigmas)
    if n < key.uni_pc_order:
        reason = f"use at most {n}, the steps that this denoising_strength leaves of {key.steps}"
        raise Refused("uni_pc_order", key.uni_pc_order, reason if n else "use a higher denoising_strength")
    start = total - 1 if key.txt2img else visited[-1]
    levels = levels.log_alpha()

    # time counts from 1 / total to 1
    times = np.linspace(start + 1, 1, n + 1) / total
    if key.uni_pc_skip_type == "time_quadratic":
        times = np.linspace(sqrt(times[0]), sqrt(times[-1]), n + 1) ** 2
    grid = levels.exploding(levels.scheduled.t_to_sigma(times * total - 1))
    if key.uni_pc_skip_type == "logSNR":
        grid = np.geomspace(grid[0], grid[-1], n + 1)
    return _preserved(key, grid, float(levels.sigmas[noised_to]))


_RUNS: dict[str, Callable[[PlanKey, NoiseLevels], Run]] = {
    function.__name__: function for function in (scheduled, ends, timesteps, uni_pc)
}


def _first(key: PlanKey, sigma: float) -> tuple[float, float]:
    """The coefficients of z0 and of noise in a latent that is noised to `sigma`."""
    if key.txt2img:
        return 0.0, sqrt(1 + sigma**2) if key.sgm_noise_multiplier else sigma
    return 1.0, (sigma + key.extra_noise) * key.initial_noise_multiplier


def _preserved(key: PlanKey, visited: Array, noised_to: float) -> Run:
    """A run of a variance-preserving latent, which is noised to another level than the run begins at."""
    start, end = (visited[0], visited[-1]) if len(visited) else (noised_to, noised_to)
    ratio = sqrt((1 + start**2) / (1 + noised_to**2))
    z0, noise = _first(key, noised_to)
    first = (0.0, sqrt(1 + start**2)) if key.txt2img else (ratio * z0, ratio * noise)
    return Run(sigmas=visited, first=first, scale_out=1 / sqrt(1 + end**2))


def _timesteps(key: PlanKey, levels: NoiseLevels) -> tuple[npt.NDArray[np.int64], int]:
    """The timesteps that are visited, ascending, and the one to which the latent is noised."""
    total = len(levels.sigmas)
    steps, start = key.steps_and_start
    if steps + key.discards > total:
        raise _too_long(key, total - key.discards)
    whole = np.clip(np.arange(0, total, total // (steps + key.discards)) + 1, 0, total - 1)
    return (whole, total - 1) if key.txt2img else (whole[:start], int(whole[start]))


def _schedule(key: PlanKey, steps: int, levels: NoiseLevels) -> Array:
    scheduler = SAMPLERS[key.sampler_name].schedule(key.scheduler)
    if scheduler is None:
        return sigmas("Uniform", steps, levels)
    options: dict[str, Any] = dict(OLD_KARRAS) if key.use_old_karras_scheduler_sigmas else {}
    options |= {name: given for name in ("sigma_min", "sigma_max") if (given := getattr(key, name))}
    if scheduler == "Beta":
        options |= {"alpha": key.beta_dist_alpha, "beta": key.beta_dist_beta}
    if SCHEDULERS[scheduler].default_rho is not None:
        options["rho"] = key.rho or SCHEDULERS[scheduler].default_rho
    try:
        found = sigmas(scheduler, steps, levels, **options)
    except OverflowError:
        found = np.full(1, inf)
    if not np.isfinite(found).all() or (found[:-1] <= 0).any():
        given = (key.rho, key.sigma_min, key.sigma_max)
        raise Refused(
            "rho, sigma_min, sigma_max", given, "sigmas must be finite and above 0; use less extreme values"
        )
    return found


def _too_long(key: PlanKey, limit: int) -> Refused:
    sampler = f"{key.sampler_name} with schedule {key.scheduler}"
    return Refused(
        "steps, denoising_strength, fix_steps",
        (key.steps, key.denoising_strength, key.fix_steps),
        f"{sampler} takes at most {limit:,} steps / denoising_strength; use fewer steps",
    )
