"""Decides which model calls of an image have no negative row."""

from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS
from img2img_shared.step_count import steps_taken


def skips_negative(params: Params, call: int, *, sigma: float, timestep: float) -> bool:
    """Whether a model call, counted from 0, has no negative row.

    It is left out in early calls (see `skips_early`), and below the sigma ``s_min_uncond`` in every second
    call or, with ``s_min_uncond_all``, in all. For samplers that count timesteps, A1111 compares the timestep
    with ``s_min_uncond``, not the sigma.
    """
    level = timestep if SAMPLERS[params.sampler_name].timesteps else sigma
    below = level < params.s_min_uncond and (call % 2 == 1 or params.s_min_uncond_all)
    return below or skips_early(params, call)


def skips_early(params: Params, call: int) -> bool:
    """Whether ``skip_early_cond`` leaves out the negative row of a call because it is an early one."""
    return bool(params.skip_early_cond) and share_of_steps(params, call) <= params.skip_early_cond


def share_of_steps(params: Params, call: int) -> float:
    """The fraction of its steps that an image has finished at a model call, as A1111 computes it."""
    return call / (steps_taken(params) * (2 if SAMPLERS[params.sampler_name].second_order else 1))
