"""A1111's "Poor man's outpainting": the farm's own outpainting."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import RenderRequest
from img2img_gateway.sdapi.scripts.script import Run, Script, changed
from img2img_gateway.sdapi.scripts.sides import Sides, first_picture_alone, sides_of

_CONTENTS = ["fill", "original", "latent noise", "latent nothing"]


class PoorMansOutpainting(Script):
    """Its arguments."""

    title: ClassVar = "poor man's outpainting"
    of_txt2img: ClassVar = False

    pixels: Annotated[int, Field(title="Pixels to expand", ge=8, le=256, json_schema_extra={"step": 8})] = 128
    mask_blur: Annotated[int, Field(title="Mask blur", ge=0, le=64, json_schema_extra={"step": 1})] = 4
    content: Annotated[
        Literal[0, 1, 2, 3, "fill", "original", "latent noise", "latent nothing"],
        Field(title="Masked content", json_schema_extra={"enum": _CONTENTS}),
    ] = "fill"
    sides: Sides = ("left", "right", "up", "down")

    def run(self, request: RenderRequest, lenient: Leniency) -> Run:
        """One picture.

        Raises:
            Refused: it is to grow nowhere.
        """
        changes = {
            **first_picture_alone(request, lenient, self.title),
            # by its name, any content is filled, as in A1111, whose page sends a number
            "inpainting_fill": self.content if isinstance(self.content, int) else 0,
            "batch_size": 1,
            "n_iter": 1,
        }
        params = {
            "outpaint": sides_of(self.sides),
            "outpaint_pixels": self.pixels,
            "outpaint_mask_blur": self.mask_blur,
        }
        texts = list if isinstance(self.content, int) else _without_content
        return Run(
            requests=[changed(request, changes)],
            params=params,
            texts=texts,
            account_changes=lambda _: {"batch_size": 1},
        )


def _without_content(texts: list[str]) -> list[str]:
    """As A1111 tells of a content that is no number: not at all."""
    return [text.replace(", Masked content: fill,", ",") for text in texts]
