"""At which of its model calls an image is not guided away from its negative prompt."""

from img2img_shared.names import SAMPLERS
from img2img_shared.params import Params
from img2img_shared.steps import steps_taken
from img2img_worker.sampling.plan import Plan


def calls_without_negative(params: Params, plan: Plan) -> frozenset[int]:
    """Model calls, counted from 0, without a negative row.

    Besides the early ones, ``s_min_uncond`` leaves it out below that sigma, in every second call, or with
    ``s_min_uncond_all`` in all. Samplers with timesteps of their own hand A1111's guidance a timestep where
    others have a sigma.
    """
    told = plan.timesteps if SAMPLERS[params.sampler_name].timesteps else plan.sigmas
    below = {call for call, level in enumerate(told.tolist()) if level < params.s_min_uncond}
    if not params.s_min_uncond_all:
        below = {call for call in below if call % 2}
    return calls_skipping_early(params, plan) | below


def calls_skipping_early(params: Params, plan: Plan) -> frozenset[int]:
    """Model calls from the first on, as many as ``skip_early_cond`` says."""
    if not params.skip_early_cond:
        return frozenset()
    # as A1111 reckons their number, by which it knows what a share of the steps is
    total = steps_taken(params) * (2 if SAMPLERS[params.sampler_name].second_order else 1)
    return frozenset(call for call in range(len(plan.sigmas)) if call / total <= params.skip_early_cond)
