"""How many of its schedule's steps a render takes."""

from img2img_shared.params import Params


def schedule_and_start(steps: int, denoising_strength: float, *, fix_steps: bool = False) -> tuple[int, int]:
    """(T, t_start): the schedule's length, and how many of its steps follow the first one that is run.

    By default the strength's share of the steps is run, and one more; with `fix_steps` exactly `steps`, at
    the end of a schedule so long that they are its share. (A strength of 0 runs nothing, whatever is here.)

    Source: A1111's ``setup_img2img_steps``.

    >>> schedule_and_start(20, 0.75)
    (20, 15)
    >>> schedule_and_start(20, 0.25, fix_steps=True)
    (80, 19)
    """
    strength = min(denoising_strength, 0.999)
    if fix_steps:
        return int(steps / strength) if strength > 0 else 0, steps - 1
    return steps, int(strength * steps)


def steps_taken(params: Params) -> int:
    """The steps that A1111 tells and counts by; timesteps samplers take fewer (`DDIM`), others as many."""
    if params.txt2img:
        return params.steps
    _, start = schedule_and_start(params.steps, params.denoising_strength, fix_steps=params.fix_steps)
    return start + 1


def steps_in_all(params: Params) -> int:
    """Those of both passes, where the hires fix adds a second one."""
    return steps_taken(params) + (params.hr_second_pass_steps or params.steps if params.enable_hr else 0)
