"""Grows a picture beyond its edges, tile by tile: A1111's "Poor man's outpainting"."""

from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image, ImageDraw

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.tile_places import Box, grown_side, is_inside, places
from img2img_worker.pictures.tiles import merged

#: most tiles of one picture, each of which is a render
MOST_TILES = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """A part that is rendered."""

    #: RGB, of the render's size; black where there is nothing yet
    picture: Image.Image
    #: L, of the same size, 255 where the result shows
    mask: Image.Image
    #: L, 255 where the latent is repainted
    latent_mask: Image.Image


class GrowingPicture:
    """A picture in the middle of a larger one, which is cut into tiles.

    Args:
        picture: as it was decoded; its transparency is ignored, as in A1111.

    Raises:
        Refused: tiles overlap entirely, are too many, or the blur leaves nothing of the picture.
    """

    def __init__(self, picture: Image.Image, params: Params) -> None:
        #: of the job, which say how it grows
        self.params = params
        pixels, self._size = params.outpaint_pixels, (params.width, params.height)
        if pixels >= min(self._size):
            raise Refused("outpaint_pixels", pixels, "give less than width and height, a tile's")
        left, right, width = grown_side(picture.width, pixels, params.outpaint_sides, ("left", "right"))
        up, down, height = grown_side(picture.height, pixels, params.outpaint_sides, ("up", "down"))
        self._inside: Box = left, up, width - right, height - down
        self._pixels = pixels
        self._rows = places(height, params.height, pixels)
        self._columns = places(width, params.width, pixels)
        count = len(self._rows) * len(self._columns)
        if count > MOST_TILES:
            reason = f"they make {count:,} tiles; give larger ones: a picture may have at most {MOST_TILES:,}"
            raise Refused("width, height", self._size, reason)
        self._whole = Image.new("RGB", (width, height))
        self._whole.paste(picture, (left, up))
        blur = params.outpaint_mask_blur
        self._mask = self._outside(2 * blur, (left, up, right, down))
        self._latent_mask = self._outside(blur // 2, (left, up, right, down))

    def tiles(self) -> list[Tile]:
        """The tiles that reach beyond the picture, row by row."""
        return [
            Tile(
                picture=self._whole.crop(box),
                mask=self._mask.crop(box),
                latent_mask=self._latent_mask.crop(box),
            )
            for box in self._boxes()
            if not self._is_inside(box)
        ]

    def finished(self, results: Iterable[Image.Image]) -> Image.Image:
        """The picture with its rendered `tiles`."""
        upcoming = iter(results)
        tiles = (self._whole.crop(box) if self._is_inside(box) else next(upcoming) for box in self._boxes())
        return merged(tiles, self._whole.size, rows=self._rows, columns=self._columns, fade=self._pixels)

    def _boxes(self) -> list[Box]:
        width, height = self._size
        return [(x, y, x + width, y + height) for y in self._rows for x in self._columns]

    def _is_inside(self, box: Box) -> bool:
        return is_inside(box, self._inside)

    def _outside(self, margin: int, grown: Box) -> Image.Image:
        """White beyond the picture, and up to `margin` pixels into it where it grows."""
        left, up, right, down = grown
        width, height = self._whole.size
        box = (
            left + (margin if left else 0),
            up + (margin if up else 0),
            width - right - (margin if right else 0),
            height - down - (margin if down else 0),
        )
        if box[2] < box[0] or box[3] < box[1]:
            raise Refused("outpaint_mask_blur", margin // 2, "give less: it leaves nothing of the picture")
        mask = Image.new("L", (width, height), "white")
        ImageDraw.Draw(mask).rectangle(box, fill="black")
        return mask
