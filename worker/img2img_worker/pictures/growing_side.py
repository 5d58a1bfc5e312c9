"""Prepares a picture to grow beyond one of its edges: a step of A1111's "Outpainting mk2"."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.tile_places import MULTIPLE, grown_side
from img2img_worker.pictures.matched_noise import matched_noise
from img2img_worker.pictures.outpainting import Tile


def growth(size: tuple[int, int], params: Params) -> Iterator[tuple[str, int]]:
    """The sides at which a picture of `size` grows, in that order, and by how many pixels."""
    pixels, sides = params.outpaint_pixels, params.outpaint_sides
    left, right, _ = grown_side(size[0], pixels, sides, ("left", "right"))
    up, down, _ = grown_side(size[1], pixels, sides, ("up", "down"))
    for side, by in (("left", left), ("right", right), ("up", up), ("down", down)):
        if by:
            yield side, by


class GrowingSide:
    """A picture (RGB) with noise beyond one side, and the tile that is rendered there."""

    def __init__(self, picture: Image.Image, side: str, pixels: int, params: Params) -> None:
        self._side = side
        self._is_across = side in ("left", "right")
        width, height = picture.size
        self._size = (width + pixels, height) if self._is_across else (width, height + pixels)
        padded_width, padded_height = (-(-each // MULTIPLE) * MULTIPLE for each in self._size)
        whole = Image.new("RGB", (padded_width, padded_height))
        whole.paste(picture, (pixels if side == "left" else 0, pixels if side == "up" else 0))
        blur = params.outpaint_mask_blur
        mask = self._outside((padded_width, padded_height), pixels + blur)
        self._whole = _with_noise(whole, mask, params)
        #: where the tile lies
        tile_width = min(params.width, self._size[0]) if self._is_across else padded_width
        tile_height = padded_height if self._is_across else min(params.height, self._size[1])
        x = 0 if side == "left" else padded_width - tile_width
        y = 0 if side == "up" else padded_height - tile_height
        self._place = x, y
        box = x, y, x + tile_width, y + tile_height
        self.tile = Tile(
            picture=self._whole.crop(box),
            mask=mask.crop(box),
            latent_mask=self._outside((tile_width, tile_height), pixels + 2 * blur),
        )

    def finished(self, result: Image.Image) -> Image.Image:
        """The picture with its rendered tile."""
        self._whole.paste(result, self._place)
        return self._whole.crop((0, 0, *self._size))

    def _outside(self, size: tuple[int, int], margin: int) -> Image.Image:
        """White for `margin` pixels from the side, and where the grown picture is still empty."""
        left, up, (right, down) = 0, 0, self._size
        if self._side == "left":
            left = margin
        elif self._side == "up":
            up = margin
        elif self._side == "right":
            right = size[0] - margin
        else:
            down = size[1] - margin
        if right < left or down < up:
            reason = "give less, or a larger width and height: it leaves nothing of the picture"
            raise Refused("outpaint_mask_blur", margin, reason)
        mask = Image.new("L", size, "white")
        ImageDraw.Draw(mask).rectangle((left, up, right, down), fill="black")
        return mask


def _with_noise(whole: Image.Image, mask: Image.Image, params: Params) -> Image.Image:
    pixels = matched_noise(
        np.asarray(whole) / 255,
        np.asarray(mask) > 0,
        params.outpaint_noise_exponent,
        params.outpaint_color_variation,
    )
    return Image.fromarray((pixels * 255).astype(np.uint8))
