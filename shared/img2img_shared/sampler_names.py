"""Which sampler and which schedule a request means, by names as people and A1111's clients write them."""

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
        Refused: for a name that A1111 does not know, and would take for "DPM++ 2M"; with the name as it is
            spelt where one is meant, else with the list of names.
    """
    bare, ending = _without_endings(name)
    if bare not in SAMPLERS:
        meant = _suggestion(name)
        raise Refused(
            "sampler_name", name, f"use {meant}" if meant else unknown_name("sampler", name, SAMPLERS)
        )
    return bare, find_scheduler(scheduler) if scheduler else ending


def split_second_sampler(name: str | None, scheduler: str | None) -> tuple[str | None, str | None]:
    """The (sampler, scheduler) that a hires fix names for its second pass; None: the first one's.

    Raises:
        Refused: as `split_sampler`, for "hr_sampler_name" or "hr_scheduler".
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
        Refused: for one that A1111 does not know, and would take for "Automatic".
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
    """A sampler's name without the schedules that it ends in, and the last of those that was taken off."""
    found = "Automatic"
    for label, scheduler in SCHEDULERS.items():
        for ending in (label, scheduler.name, *scheduler.aliases):
            if name.endswith(f" {ending}"):
                name, found = name.removesuffix(f" {ending}"), label
                break
    return name, found


def _suggestion(name: str) -> str | None:
    """How a name is written that A1111 does not know: in another case, an alias, "Euler a SGM Uniform"."""
    for sampler, has in SAMPLERS.items():
        for spelling in (sampler, *has.aliases):
            for label in SCHEDULERS:
                if _fold(name) == _fold(f"{spelling} {label}"):
                    return f"{sampler!r} with scheduler {label!r}"
            if _fold(name) == _fold(spelling):
                return repr(sampler)
    return None


def _fold(name: str) -> str:
    """As far as any name goes: a sender's may be endless."""
    return name[:100].lower().replace(" ", "").replace("_", "")
