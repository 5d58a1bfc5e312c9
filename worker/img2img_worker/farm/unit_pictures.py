"""The control units of one image: their pictures for its renders, and their changes to its result."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.control import ControlUnit, control_roles, picture_roles
from img2img_shared.errors import Refused, Summary
from img2img_shared.param_groups.size_params import CELL
from img2img_shared.params import Params
from img2img_shared.seeds import control_seed
from img2img_worker.engine.render import Control
from img2img_worker.farm.control_cache import ControlCache, key_of
from img2img_worker.pictures.control.prepare_control import (
    ControlPicture,
    control_map,
    control_pictures,
    finish_result,
)
from img2img_worker.pictures.control.preprocessors import Annotate
from img2img_worker.pictures.control.source import Originals
from img2img_worker.pictures.decode import Decoder


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlTools:
    """The tools for making control pictures."""

    decoder: Decoder
    cache: ControlCache
    annotate: Annotate


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedUnit:
    """A unit with its picture for each pass of a render."""

    unit: ControlUnit
    passes: tuple[ControlPicture, ...]
    #: what else an IP-Adapter's sees, in each
    more: tuple[ControlPicture, ...]
    region: NDArray[np.uint8] | None

    @property
    def maps(self) -> list[Image.Image]:
        """The pictures to be shown: with a hires fix the larger one first, as in A1111's extension."""
        is_the_same = self.unit.preprocessor.is_image_prompt
        shown = (self.passes[0], *self.more) if is_the_same else reversed(self.passes)
        return [each.map for each in shown]

    def control(self, number: int) -> Control | None:
        """The control for pass `number`, or None if the unit does not act in it."""
        is_off = len(self.passes) > 1 and self.unit.hr_option == ("Low res only", "High res only")[1 - number]
        if is_off and not self.unit.preprocessor.amends:
            return None
        more = tuple(each.pixels for each in self.more)
        return Control(
            unit=self.unit,
            picture=self.passes[number].pixels,
            more=more,
            first_pass=self.passes[0].pixels if number and self.unit.hr_option == "Both" else None,
            region=self.region,
            amends_only=is_off,
        )


class PreparedUnits:
    """All units of an image.

    Args:
        sizes: (width, height) of each pass; fractions of a latent cell are cut off, as in the extension.
        pictures: the image's files by their roles, as they are in the store.

    Raises:
        Refused: says what is wrong with a unit, or one of its pictures.
    """

    def __init__(
        self,
        params: Params,
        sizes: list[tuple[int, int]],
        pictures: Mapping[str, bytes],
        tools: ControlTools,
    ) -> None:
        whole = [(width - width % CELL, height - height % CELL) for width, height in sizes]
        self.units = tuple(
            _prepare_unit(number, unit, params, whole, pictures, tools)
            for number, unit in enumerate(params.control)
        )

    def controls(self, number: int = 0) -> tuple[Control, ...]:
        """The controls for pass `number`."""
        found = (unit.control(number) for unit in self.units)
        return tuple(control for control in found if control is not None)

    def finish_result(self, result: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The last render's result [H, W, 3], with the changes of the units' modules."""
        for each in self.units:
            result = finish_result(result, each.unit, each.passes[-1])
        return result

    @property
    def maps(self) -> dict[str, Image.Image]:
        """The control pictures that were asked for, by their names beside the result."""
        maps = [shown for each in self.units if each.unit.save_detected_map for shown in each.maps]
        return {f"control-{number}": shown for number, shown in enumerate(maps)}


def detect(params: Params, pictures: Mapping[str, bytes], tools: ControlTools) -> ControlPicture:
    """What the preprocessor of a render's one unit makes of its picture, at the size it would have there.

    Raises:
        Refused: like `PreparedUnits`.
    """
    (unit,) = params.control
    own, own_mask, _ = control_roles(0)
    files = _files(pictures, own, own_mask)
    with tools.decoder.decoded_pictures(files) as decoded:
        originals = _originals(decoded, own, own_mask)
        try:
            return control_map(unit, originals, params, _seed(params), tools.annotate)
        except Refused as refused:
            raise _by_role(refused, own) from None


def _prepare_unit(
    number: int,
    unit: ControlUnit,
    params: Params,
    sizes: list[tuple[int, int]],
    pictures: Mapping[str, bytes],
    tools: ControlTools,
) -> PreparedUnit:
    *_, region = control_roles(number)
    if unit.module == "inpaint_only" and "mask" in pictures:
        # the render's own mask keeps the rest already, as the extension has it
        unit = unit.model_copy(update={"module": "inpaint"})
    first, *others = picture_roles(number)
    others = [roles for roles in others if roles[0] in pictures]
    if others:  # several are never cropped
        unit = unit.model_copy(update={"inpaint_crop_input_image": False})
    passes = _passes(unit, first, params, sizes, pictures, tools)
    more = tuple(_passes(unit, roles, params, sizes, pictures, tools)[0] for roles in others)
    area = None
    if region in pictures:
        with tools.decoder.decoded_pictures({region: pictures[region]}) as decoded:
            area = _effective_region(decoded[region], region)
    return PreparedUnit(unit=unit, passes=passes, more=more, region=area)


def _passes(
    unit: ControlUnit,
    roles: tuple[str, str],
    params: Params,
    sizes: list[tuple[int, int]],
    pictures: Mapping[str, bytes],
    tools: ControlTools,
) -> tuple[ControlPicture, ...]:
    """A unit's picture, and its mask, for each pass."""
    own, own_mask = roles
    files = _files(pictures, own, own_mask)

    def make() -> tuple[ControlPicture, ...]:
        with tools.decoder.decoded_pictures(files) as decoded:
            originals = _originals(decoded, own, own_mask)
            try:
                return tuple(control_pictures(unit, originals, params, sizes, _seed(params), tools.annotate))
            except Refused as refused:
                raise _by_role(refused, own) from None

    by_part = {name.removeprefix(own): data for name, data in files.items()}
    return tools.cache.get(key_of(unit, params, sizes, by_part, _seed(params)), make)


def _files(pictures: Mapping[str, bytes], own: str, own_mask: str) -> dict[str, bytes]:
    """A unit's own picture with its mask, or else the render's; and the render's mask."""
    looked_at = (own, own_mask) if own in pictures else ("image",)
    return {role: pictures[role] for role in (*looked_at, "mask") if role in pictures}


def _originals(decoded: Mapping[str, Image.Image], own: str, own_mask: str) -> Originals:
    return Originals(
        own=decoded.get(own),
        own_mask=decoded.get(own_mask),
        image=decoded.get("image"),
        mask=decoded.get("mask"),
    )


def _by_role(refused: Refused, own: str) -> Refused:
    """The refusal of a unit, with the role of its picture."""
    rest = refused.field.removeprefix("control")
    field = refused.field if rest == refused.field else own + rest
    return Refused(field, refused.value, refused.reason)


def _effective_region(picture: Image.Image, role: str) -> NDArray[np.uint8]:
    """Where a unit acts [H, W], by the picture's red channel; A1111's extension ignores a grey picture."""
    if picture.mode == "L":
        raise Refused(
            role,
            Summary("a grey picture"),
            "give one with colours, white where the unit acts; save it as RGB",
        )
    return np.array(picture)[:, :, 0]


def _seed(params: Params) -> int:
    """The seed of preprocessors with randomness: the first image's, so that a batch has one picture.

    A1111's extension adds the variation seed, and where that is to be drawn, the seed itself.
    """
    return control_seed(params.seed, params.control_subseed)
