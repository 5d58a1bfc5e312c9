"""What A1111's clock shows at a model call: the step that was finished last, as its callbacks tell it."""

from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS
from img2img_shared.step_count import steps_taken


def share_done(params: Params, call: int) -> float:
    """The share of its steps that a render has behind it at a model call, both counted from 0.

    The clock is set at a step's first answer, and to that step's number: so the first two steps find it at 0,
    and a second call of a step is a step ahead of the first one.
    """
    sampler = SAMPLERS[params.sampler_name]
    if sampler.second_order:
        done = (call - 1) // 2
    elif params.sampler_name in {"PLMS", "UniPC"}:  # whose first step takes two calls
        done = call - 2
    elif params.sampler_name == "DPM adaptive":  # set at a step's end, of three calls
        done = call // 3 - 1
    elif params.sampler_name == "DPM fast":  # steps of three calls
        done = (call + 2) // 3 - 1
    else:
        done = call - 1
    return max(0, done) / steps_taken(params)
