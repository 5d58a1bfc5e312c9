"""A1111's step counter: the last finished step at a model call, as its callbacks report it."""

from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS
from img2img_shared.step_count import steps_taken


def share_done(params: Params, call: int) -> float:
    """The fraction of its steps that a render has finished at a model call, both counted from 0.

    The counter is set to a step's number after the step's first answer. So it is 0 during the first two
    steps, and one higher at a step's second call than at its first.
    """
    sampler = SAMPLERS[params.sampler_name]
    if sampler.second_order:
        done = (call - 1) // 2
    elif params.sampler_name in {"PLMS", "UniPC"}:  # whose first step takes two calls
        done = call - 2
    elif params.sampler_name == "DPM adaptive":  # set at the end of a step of three calls
        done = call // 3 - 1
    elif params.sampler_name == "DPM fast":  # steps of three calls
        done = (call + 2) // 3 - 1
    else:
        done = call - 1
    return max(0, done) / steps_taken(params)
