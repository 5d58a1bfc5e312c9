"""A1111's "Poor man's outpainting": the farm's own outpainting."""

import io
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from PIL import Image
from pydantic import Field

from img2img_gateway.pictures import decode_base64
from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import Img2ImgRequest, RenderRequest
from img2img_gateway.sdapi.scripts.script import AccountChanges, Run, Script, changed
from img2img_gateway.sdapi.scripts.sides import Sides, first_picture_alone, sides_of
from img2img_shared.picture_parts import too_many_parts
from img2img_shared.seeds import shift_seed
from img2img_shared.tile_places import outer_tiles

_CONTENTS = ["fill", "original", "latent noise", "latent nothing"]


class PoorMansOutpainting(Script):
    """The script's arguments."""

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
            Refused: no side is to grow.
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
            account_changes=self._account(_size_of(request)),
        )

    def _account(self, picture: tuple[int, int] | None) -> AccountChanges:
        """A1111's account, with the last tile's seeds if the size of the `picture` is known."""

        def changes(account: Mapping[str, Any], _: tuple[int, int]) -> dict[str, Any]:
            found = {"batch_size": 1, "subseed": -1}
            if picture is None:
                return found
            tile, sides = (account["width"], account["height"]), sides_of(self.sides).split(", ")
            tiles = outer_tiles(picture, self.pixels, sides, tile)
            return found | {"all_seeds": [shift_seed(account["seed"], max(tiles, 1) - 1)]}

        return changes


def _size_of(request: RenderRequest) -> tuple[int, int] | None:
    """Width and height of its first picture; None if it was uploaded before, or is not a picture."""
    images = request.init_images or [] if isinstance(request, Img2ImgRequest) else []
    try:
        data = decode_base64(images[0], "init_images.0", len(images[0]))
        if too_many_parts(data):
            return None
        with Image.open(io.BytesIO(data)) as header:
            return header.size
    except Exception:  # Pillow's readers raise nearly anything on damaged data
        return None


def _without_content(texts: list[str]) -> list[str]:
    """Infotexts without the masked content: A1111 leaves out one that is not a number."""
    return [text.replace(", Masked content: fill,", ",") for text in texts]
