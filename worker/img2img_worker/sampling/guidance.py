"""At which of its model calls an image is not guided away from its negative prompt."""

from img2img_shared.names import SAMPLERS
from img2img_shared.params import Params
from img2img_shared.steps import steps_taken
from img2img_worker.sampling.plan import Plan


def calls_without_negative(params: Params, plan: Plan) -> frozenset[int]:
    """Model calls, counted from 0, without a negative row.

    ``skip_early_cond`` leaves it out in a share of the steps, from the first on; ``s_min_uncond`` below that
    sigma, in every second call, or with ``s_min_uncond_all`` in all. Samplers with timesteps of their own
    hand A1111's guidance a timestep where others have a sigma.
    """
    sampler = SAMPLERS[params.sampler_name]
    told = plan.timesteps if sampler.timesteps else plan.sigmas
    total = _calls_expected(params)
    return frozenset(
        call
        for call, level in enumerate(told.tolist())
        if (params.skip_early_cond and call / total <= params.skip_early_cond)
        or (level < params.s_min_uncond and (call % 2 or params.s_min_uncond_all))
    )


def _calls_expected(params: Params) -> int:
    """As A1111 reckons it, by which it knows what a share of the steps is."""
    steps = steps_taken(params)
    return 2 * steps if SAMPLERS[params.sampler_name].second_order else steps
