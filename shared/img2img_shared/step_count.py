"""How many steps of its schedule a render takes."""

from img2img_shared.errors import Refused
from img2img_shared.param_fields import ParamFields
from img2img_shared.samplers import SAMPLERS

#: noise levels of a model, which samplers with timesteps of their own count through
LEVELS = 1000


def schedule_and_start(steps: int, denoising_strength: float, *, fix_steps: bool = False) -> tuple[int, int]:
    """(T, t_start): the schedule's length, and how many of its steps follow the first one that is run.

    By default the strength's share of the steps is run, and one more; with `fix_steps` exactly `steps` are
    run, at the end of a longer schedule of which they are that share. A strength of 0 runs the
    last one of `steps`.

    Source: A1111's ``setup_img2img_steps``.

    >>> schedule_and_start(20, 0.75)
    (20, 15)
    >>> schedule_and_start(20, 0.25, fix_steps=True)
    (80, 19)
    """
    strength = min(denoising_strength, 0.999)
    if fix_steps and strength > 0:
        return int(steps / strength), steps - 1
    return steps, int(strength * steps)


def steps_taken(params: ParamFields) -> int:
    """The steps that A1111 reports and counts; timestep samplers take fewer (`DDIM`), others as many."""
    if params.txt2img:
        return params.steps
    _, start = schedule_and_start(params.steps, params.denoising_strength, fix_steps=params.fix_steps)
    return start + 1


def steps_in_all(params: ParamFields) -> int:
    """The steps of all passes, if a hires fix adds a second one."""
    return steps_taken(params) + (params.hr_second_pass_steps or params.steps if params.enable_hr else 0)


def check_steps(params: ParamFields) -> None:
    """Check that the sampler can run with this number of steps.

    Raises:
        Refused: A1111 would fail while rendering.
    """
    sampler = SAMPLERS[params.sampler_name]
    total, start = (
        (params.steps, params.steps - 1)
        if params.txt2img
        else schedule_and_start(params.steps, params.denoising_strength, fix_steps=params.fix_steps)
    )
    if sampler.timesteps:
        stride = LEVELS // (total + params.always_discard_next_to_last_sigma)
        if stride == 0:
            reason = (
                f"{params.sampler_name} runs at most {LEVELS:,} steps / denoising_strength; use fewer steps"
            )
            raise Refused("steps, denoising_strength, fix_steps", _strength(params), reason)
        visited = len(range(0, LEVELS, stride)) if params.txt2img else start
        if sampler.run == "uni_pc" and params.uni_pc_order > visited:
            reason = (
                f"use at most {visited}, the steps that are run of {total}" if visited else "use more steps"
            )
            raise Refused("uni_pc_order", params.uni_pc_order, reason)
    eta = sampler.eta if params.eta is None else params.eta
    if sampler.run == "ends" and eta and start == 0 and not params.txt2img:
        reason = "they leave one step; use more, or eta 0"
        raise Refused("steps, denoising_strength, fix_steps", _strength(params), reason)


def _strength(params: ParamFields) -> tuple[int, float, bool]:
    return params.steps, params.denoising_strength, params.fix_steps
