"""At which of its model calls an image is not guided away from its negative prompt."""

from img2img_shared.names import SAMPLERS
from img2img_shared.params import Params
from img2img_shared.steps import steps_taken


def skips_negative(params: Params, call: int, *, sigma: float, timestep: float) -> bool:
    """Whether a model call, counted from 0, has no negative row.

    Besides the early ones, ``s_min_uncond`` leaves it out below that sigma, in every second call, or with
    ``s_min_uncond_all`` in all. Samplers with timesteps of their own hand A1111's guidance a timestep where
    others have a sigma.
    """
    level = timestep if SAMPLERS[params.sampler_name].timesteps else sigma
    below = level < params.s_min_uncond and (call % 2 == 1 or params.s_min_uncond_all)
    return below or skips_early(params, call)


def skips_early(params: Params, call: int) -> bool:
    """Whether it is among the first, as many as ``skip_early_cond`` says."""
    if not params.skip_early_cond:
        return False
    # as A1111 reckons their number, by which it knows what a share of the steps is
    total = steps_taken(params) * (2 if SAMPLERS[params.sampler_name].second_order else 1)
    return call / total <= params.skip_early_cond
