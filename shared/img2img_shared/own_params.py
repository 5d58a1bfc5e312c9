"""The parameters that an input may override: all but those that belong to the whole job."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from img2img_shared.errors import Refused
from img2img_shared.params import WRITTEN, Params
from img2img_shared.refusals import read_params, unread
from img2img_shared.sampler_names import split_sampler
from img2img_shared.seeds import draw_seed

#: what is one for all images of a job, beside its model, and why; every other parameter may be an input's own
OF_THE_JOB = {
    "images_per_input": "the ledger counts a job's images by it, and never looks at its inputs",
    "extras": "its images go to any worker that has the upscalers, and others to those of their model",
    "output_format": "it is part of the store keys and file names by which the job's results are found",
}
#: of an input that names one of these, the seeds count from there
_SEEDS = ("seed", "subseed")


@cache
def own_names() -> tuple[str, ...]:
    """The parameters that an input may override, including `mask_blur`, which sets both directions."""
    return ("mask_blur", *(name for name in Params.model_fields if name not in OF_THE_JOB))


def check_own(params: Params, own: Mapping[str, Any]) -> tuple[dict[str, Any], Params]:
    """`own` as an `Input` keeps it, and the input's complete parameters, checked together with the job's.

    An input keeps full names and JSON types. None means the job's value. Seeds of -1 are kept, to be drawn by
    `draw_own_seeds`.

    Raises:
        Refused: names the parameter; several are joined in one message.
    """
    given = {name: value for name, value in own.items() if value is not None}
    for name in given.keys() & OF_THE_JOB.keys():
        raise Refused(name, given[name], f"give it once for the whole job: {OF_THE_JOB[name]}")
    if not given:
        return {}, params
    whole = read_params({**_below(params, given), **_endings(given), **given})
    before = vars(params)
    named = {name for name, value in vars(whole).items() if name in given or value != before[name]}
    return whole.model_dump(mode="json", include=named), whole


def _below(params: Params, given: Mapping[str, Any]) -> dict[str, Any]:
    """The job's parameters under an input's own, without a size that the input overrides in another way."""
    sides = [name for name in ("width", "height") if name in given]
    if len(sides) == 1 and params.fit is not None:
        raise Refused(sides[0], given[sides[0]], "give width and height, or fit alone")
    other = {"fit"} if sides else {"width", "height"} if "fit" in given else set()
    return params.model_dump(exclude_defaults=True, exclude=other)


def _endings(given: Mapping[str, Any]) -> dict[str, str]:
    """The schedules in which samplers' names end, over which the job's would otherwise win."""
    found = {}
    for prefix in ("", "hr_"):
        name = given.get(f"{prefix}sampler_name")
        if isinstance(name, str) and f"{prefix}scheduler" not in given:
            _, ending = split_sampler(name)
            if ending != "Automatic":
                found[f"{prefix}scheduler"] = ending
    return found


def draw_own_seeds(params: Params, own: Mapping[str, Any]) -> dict[str, Any]:
    """`own`, of an input below `params`, with its seeds drawn where they are -1: it can be rendered again."""
    drawn = {name: draw_seed(value) if name in _SEEDS else value for name, value in own.items()}
    if "subseed" in own and own.get("control", params.control):
        drawn.setdefault("control_subseed", own["subseed"])
    return drawn


def with_own(params: Params, own: Mapping[str, Any]) -> Params:
    """A job's parameters, overridden by an input's own, as `check_own` has written them.

    Raises:
        WireError: a newer version wrote them.
    """
    if not own:
        return params
    try:
        return Params.model_validate({**params.model_dump(exclude_defaults=True), **own}, context=WRITTEN)
    except (ValidationError, Refused) as error:
        raise unread("inputs", error) from None
