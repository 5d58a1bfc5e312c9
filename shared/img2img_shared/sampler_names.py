"""Finds the sampler and the schedule of a request, by names as people and A1111's clients write them."""

from img2img_shared.errors import Refused
from img2img_shared.samplers import SAMPLERS, SCHEDULERS
from img2img_shared.suggestions import unknown_name


def split_sampler(name: str, scheduler: str | None = None) -> tuple[str, str]:
    """The (sampler, scheduler) that a request means.

    "DPM++ 2M Karras" is split as A1111 splits it. A schedule named on its own wins over such an ending, and
    so does an "Automatic" that is.

    Args:
        scheduler: None or "": none is named.

    Raises:
        Refused: A1111 does not know the name, and would use "DPM++ 2M"; says the right spelling if the
            name is close to one, else lists the names.
    """
    bare, ending = _without_endings(name)
    if bare not in SAMPLERS:
        meant = _suggestion(name)
        raise Refused(
            "sampler_name", name, f"use {meant}" if meant else unknown_name("sampler", name, SAMPLERS)
        )
    return bare, find_scheduler(scheduler) if scheduler else ending


def split_second_sampler(name: str | None, scheduler: str | None) -> tuple[str | None, str | None]:
    """The (sampler, scheduler) for a hires fix' second pass; None: the first pass'.

    Raises:
        Refused: like `split_sampler`, for "hr_sampler_name" or "hr_scheduler".
    """
    try:
        chosen = find_scheduler(scheduler) if scheduler else None
        if not name:
            return None, chosen
        bare, ending = split_sampler(name)
    except Refused as refused:
        raise Refused(f"hr_{refused.field}", refused.value, refused.reason) from None
    return bare, chosen or (ending if ending != "Automatic" else None)


def find_scheduler(name: str) -> str:
    """The schedule of that name or short name.

    Raises:
        Refused: A1111 does not know it, and would use "Automatic".
    """
    if name.lower() == "automatic":  # which A1111 makes of it too
        return "Automatic"
    for label, scheduler in SCHEDULERS.items():
        if name in (label, scheduler.name):
            return label
    meant = [label for label in SCHEDULERS if _fold(label) == _fold(name)]
    raise Refused(
        "scheduler", name, f"use {meant[0]!r}" if meant else unknown_name("schedule", name, SCHEDULERS)
    )


def _without_endings(name: str) -> tuple[str, str]:
    """A sampler's name without the schedules at its end, and the first of these, which was removed last."""
    found = "Automatic"
    for label, scheduler in SCHEDULERS.items():
        for ending in (label, scheduler.name, *scheduler.aliases):
            if name.endswith(f" {ending}"):
                name, found = name.removesuffix(f" {ending}"), label
                break
    return name, found


def _suggestion(name: str) -> str | None:
    """The right spelling of an unknown name: in another case, an alias, "Euler a SGM Uniform"."""
    for sampler, has in SAMPLERS.items():
        for spelling in (sampler, *has.aliases):
            for label in SCHEDULERS:
                if _fold(name) == _fold(f"{spelling} {label}"):
                    return f"{sampler!r} with scheduler {label!r}"
            if _fold(name) == _fold(spelling):
                return repr(sampler)
    return None


def _fold(name: str) -> str:
    """The name in lower case, cut at the length of any name: a sender's may be endless."""
    return name[:100].lower().replace(" ", "").replace("_", "")
