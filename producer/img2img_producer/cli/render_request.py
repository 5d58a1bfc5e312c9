"""What a command line asks to be rendered, checked before any farm is touched."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from img2img_producer.check_inputs import check_inputs
from img2img_producer.cli.farm_choice import model_of
from img2img_producer.cli.options import read_params_file
from img2img_producer.cli.sizes import with_size
from img2img_producer.cli.sources import Sources
from img2img_producer.client import Farm
from img2img_producer.inputs import Picture
from img2img_producer.moving import note_on_moving
from img2img_producer.own_texts import OwnTexts
from img2img_producer.parameters import merge_params
from img2img_producer.progress_display import ProgressDisplay
from img2img_shared.command_line import messages, say
from img2img_shared.errors import Refused
from img2img_shared.params import Params


@dataclass(frozen=True, kw_only=True)
class Request:
    """Pictures and how to render them."""

    pictures: Sequence[Picture]
    #: adds to a picture what is its own in a text
    own_texts: OwnTexts
    #: pictures by their roles, for all inputs that bring none
    for_all: dict[str, Path]
    params: Params
    #: None: the farm's default
    model: str | None

    @classmethod
    def read(
        cls,
        sources: Sources,
        params_file: Path | None,
        parameters: dict[str, Any],
        size: str | None,
        model: str | None,
        *,
        out: Path | None = None,
        elsewhere: bool,
    ) -> Self:
        """From the words of a command line.

        Args:
            out: where outputs go, which are no inputs.

        Raises:
            Refused: an input, a mask, a control picture, a parameter or the model is not there, or not
                allowed.
        """
        given = read_params_file(params_file)
        units = control_units(given)
        if sources.control:
            parameters = {**parameters, "control": [*units, *sources.control_units()]}
        params = merge_params(*with_size(given, parameters, size))
        request = cls(
            pictures=sources.varied(sources.pictures(out, first_unit=len(units)), params),
            own_texts=sources.own_texts(params),
            for_all=sources.for_all(first_unit=len(units)),
            params=params,
            model=model_of(model, elsewhere=elsewhere),
        )
        check_inputs(request.pictures, params, request.for_all, own=request.own_texts)
        for note in (*request.own_texts.notes(), *note_on_moving(request.pictures)):
            say(note)
        return request

    def submit(
        self,
        farm: Farm,
        *,
        name: str | None,
        tags: Collection[str],
        keep: str | None = None,
        priority: int,
        idempotency_key: str | None = None,
    ) -> str:
        """Store the pictures, write the job, and say how far the storing is; the job's id."""
        try:
            with ProgressDisplay(messages()) as board:
                return farm.submit(
                    map(self.own_texts, self.pictures),
                    model=self.model,
                    params=self.params,
                    pictures=self.for_all,
                    name=name,
                    tags=tags,
                    keep=keep,
                    priority=priority,
                    idempotency_key=idempotency_key,
                    progress=lambda count: board.stored(count, len(self.pictures)),
                )
        except KeyboardInterrupt:
            say("stopped before the job was submitted; pictures that are stored are not sent again")
            raise


def control_units(given: Mapping[str, Any]) -> list[Any]:
    """Those in a file of parameters.

    Raises:
        Refused: they are no list.
    """
    units = given.get("control", [])
    if not isinstance(units, list):
        raise Refused("control", units, "give a list of control units in the file of parameters")
    return units
