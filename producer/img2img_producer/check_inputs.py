"""Checks all inputs of a request before any is uploaded, so that all errors are reported at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from img2img_producer.inputs import Picture, Source
from img2img_producer.manifest import Manifest
from img2img_producer.mask_sizes import check_mask_sizes
from img2img_shared.errors import Refused, one_line
from img2img_shared.farm.checked_input import checked_input
from img2img_shared.params import Params
from img2img_shared.refusals import TOLD


class RefusedInputs(Refused):
    """Inputs that cannot be rendered: the first of them, one per line."""

    def __init__(self, findings: Sequence[Refused]) -> None:
        first, *rest = findings
        super().__init__(first.field, first.value, first.reason, (*first.others, *rest))
        if rest:
            title = "nothing was sent, for some inputs cannot be used"
            title += f"; the first {TOLD} findings:" if len(findings) == TOLD else ":"
            self.args = ("\n  ".join([title, *map(str, findings)]),)


def check_inputs(
    pictures: Sequence[Picture],
    params: Params,
    for_all: Mapping[str, Source],
    own: Callable[[Picture], Picture] | None = None,
) -> None:
    """Check that a job could be made from `pictures`, as far as that is possible without opening them.

    Args:
        for_all: pictures by their roles, for all inputs without one in that role.
        own: adds the input's own parameters to a picture.

    Raises:
        RefusedInputs: some cannot be rendered; stops after `TOLD` of them.
    """
    findings = []
    for finding in _findings(pictures, params, for_all, own):
        findings.append(finding)
        if len(findings) == TOLD:
            break
    if findings:
        raise RefusedInputs(findings)


def place_of(pictures: Sequence[Picture], index: int) -> str:
    """The name of an input in messages: its line, or its file."""
    if isinstance(pictures, Manifest):
        return pictures.place(index)
    return one_line(pictures[index].path or f"inputs[{index}]")


def _findings(
    pictures: Sequence[Picture],
    params: Params,
    for_all: Mapping[str, Source],
    own: Callable[[Picture], Picture] | None,
) -> Iterator[Refused]:
    named: dict[int, int] = {}
    for index in range(len(pictures)):
        try:
            picture = pictures[index]
        except Refused as error:
            yield error
            continue
        place = f"{place_of(pictures, index)}: "
        try:
            if own is not None:
                picture = own(picture)
            check_mask_sizes([picture], for_all.get("mask"))
            checked_input(
                params,
                roles={*for_all, *picture.pictures},
                own=picture.params,
                name=picture.name,
                folder=picture.folder,
            )
        except Refused as error:
            yield error.under(place)
            continue
        if picture.name is not None:
            # a hash: the names of a million inputs are no small thing
            key = hash((picture.folder, picture.name.casefold()))
            if (before := named.setdefault(key, index)) != index:
                reason = f"give each input a name of its own: {place_of(pictures, before)} has it"
                yield Refused(f"{place}name", picture.name, reason)
