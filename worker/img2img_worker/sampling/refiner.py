"""Decides which of an image's model calls its refiner makes."""

import numpy as np

from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS
from img2img_worker.sampling.guidance import share_of_steps
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.live import LivePlan
from img2img_worker.sampling.plan import Plan, levels_of
from img2img_worker.sampling.plan_key import PlanKey


def takes_over(params: Params, call: int, *, sigma: float, timestep: float, levels: NoiseLevels) -> bool:
    """Whether the refiner makes this model call, counted from 0; if so, it makes all later ones.

    Source: A1111's ``apply_refiner``, which by default counts noise levels and not steps.

    Args:
        levels: the first checkpoint's, as `levels_of` gives them to its sampler.
    """
    if params.refiner_checkpoint is None:
        return False
    if params.refiner_switch_at is None:
        return True
    if params.refiner_switch_by_sample_steps:
        return share_of_steps(params, call) >= params.refiner_switch_at
    if SAMPLERS[params.sampler_name].timesteps:
        level = int(timestep)
    else:
        level = int(np.abs(levels.sigmas - sigma).argmin())
    return (999 - level) / 1000 >= params.refiner_switch_at


def first_refined(params: Params, plan: Plan | LivePlan, levels: NoiseLevels) -> int | None:
    """The first model call that the refiner makes; -1: some call of an adaptive sampler; None: no call.

    Args:
        levels: the first checkpoint's.
    """
    if params.refiner_checkpoint is None:
        return None
    levels = levels_of(PlanKey.of(params), levels)
    if isinstance(plan, LivePlan):
        last = plan.last_sigma
        return -1 if takes_over(params, plan.expected, sigma=last, timestep=0, levels=levels) else None
    calls = enumerate(zip(plan.sigmas, plan.timesteps, strict=True))
    refined = (
        call for call, (sigma, t) in calls if takes_over(params, call, sigma=sigma, timestep=t, levels=levels)
    )
    return next(refined, None)
