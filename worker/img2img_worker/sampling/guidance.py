"""Decides which model calls of an image have no negative row."""

from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS
from img2img_shared.step_count import steps_taken


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
    """Whether it is among the first calls, which ``skip_early_cond`` leaves out."""
    return bool(params.skip_early_cond) and share_of_steps(params, call) <= params.skip_early_cond


def share_of_steps(params: Params, call: int) -> float:
    """The share of its steps that an image has finished at a model call, as A1111 reckons it."""
    return call / (steps_taken(params) * (2 if SAMPLERS[params.sampler_name].second_order else 1))
