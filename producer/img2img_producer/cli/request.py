"""What a command line asks to be rendered, checked before any farm is touched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from img2img_producer.cli.connection import model_of
from img2img_producer.cli.options import read_params_file
from img2img_producer.cli.sizes import with_size
from img2img_producer.client import Farm
from img2img_producer.control_words import ControlWord
from img2img_producer.inputs import Picture, find_masks, find_pictures
from img2img_producer.mask_sizes import check_mask_sizes
from img2img_producer.parameters import merge_params
from img2img_producer.progress_display import ProgressDisplay
from img2img_producer.skipped import describe, skipped_files
from img2img_shared.command_line import messages, say
from img2img_shared.errors import Refused
from img2img_shared.params import Params


@dataclass(frozen=True, kw_only=True)
class Request:
    """Pictures and how to render them."""

    pictures: list[Picture]
    #: for all pictures that bring none
    mask: Path | None
    params: Params
    #: None: the farm's default
    model: str | None

    @classmethod
    def read(
        cls,
        inputs: Sequence[str] | None,
        mask: Path | None,
        mask_dir: Path | None,
        params_file: Path | None,
        parameters: dict[str, Any],
        size: str | None,
        model: str | None,
        *,
        controls: Sequence[str] = (),
        elsewhere: bool,
    ) -> Self:
        """From the words of a command line.

        Raises:
            Refused: an input, a mask, a control picture, a parameter or the model is not there, or not
                allowed.
        """
        if mask is not None and mask_dir is not None:
            raise Refused("mask", str(mask), "give --mask or --mask-dir, not both")
        if mask is not None and not mask.is_file():
            raise Refused("mask", str(mask), "no such file; give a picture")
        paths = _found(inputs or [])
        masks = [None] * len(paths) if mask_dir is None else find_masks(paths, mask_dir)
        pictures = [Picture(image=path, mask=own) for path, own in zip(paths, masks, strict=True)]
        check_mask_sizes(pictures, mask)
        given = read_params_file(params_file)
        if controls:
            parameters = {**parameters, "control": _controlled(pictures, paths, controls, given)}
        return cls(
            pictures=pictures,
            mask=mask,
            params=merge_params(*with_size(given, parameters, size)),
            model=model_of(model, elsewhere=elsewhere),
        )

    def submit(
        self, farm: Farm, *, name: str | None, priority: int, idempotency_key: str | None = None
    ) -> str:
        """Store the pictures, write the job, and say how far the storing is; the job's id."""
        with ProgressDisplay(messages()) as board:
            return farm.submit(
                self.pictures,
                model=self.model,
                params=self.params,
                mask=self.mask,
                name=name,
                priority=priority,
                idempotency_key=idempotency_key,
                progress=lambda count: board.stored(count, len(self.pictures)),
            )


def _controlled(
    pictures: Sequence[Picture], paths: Sequence[Path], words: Sequence[str], given: Mapping[str, Any]
) -> list[Any]:
    """The file's control units and those of `words`, whose pictures go to `pictures`."""
    units = given.get("control", [])
    if not isinstance(units, list):
        raise Refused("control", units, "give a list of control units in the file of parameters")
    units = list(units)
    for word in map(ControlWord.read, words):
        for picture, source in zip(pictures, word.sources(paths), strict=True):
            if source is not None:
                picture.pictures[f"control/{len(units)}"] = source
        units.append(word.unit)
    return units


def _found(names: Sequence[str]) -> list[Path]:
    """The pictures that `names` mean; what lies beside them and is skipped, is told."""
    paths: list[Path] = []
    try:
        paths = find_pictures(names)
    finally:  # a folder without any has perhaps some that are not read
        if skipped := skipped_files(names, paths):
            say(describe(skipped))
    return paths
