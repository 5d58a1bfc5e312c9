"""A picture that is enlarged, and cut into tiles: A1111's "SD upscale"."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from img2img_shared.errors import Refused, Summary
from img2img_shared.params import Params
from img2img_worker.pictures.decode import flatten
from img2img_worker.pictures.outpainting import MOST_TILES
from img2img_worker.pictures.resize import LARGEST
from img2img_worker.pictures.tiles import merged, places
from img2img_worker.pictures.upscale import RunNetwork, upscale


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """How a picture of a size is cut."""

    size: tuple[int, int]
    #: where tiles begin
    rows: Sequence[int]
    columns: Sequence[int]
    #: width and height of a tile
    tile: tuple[int, int]
    overlap: int

    def cut(self, picture: Image.Image) -> list[Image.Image]:
        """The tiles, row by row; of a picture that is smaller than one, black above and left of it."""
        width, height = self.tile
        return [picture.crop((x, y, x + width, y + height)) for y in self.rows for x in self.columns]

    def merged(self, tiles: Sequence[Image.Image]) -> Image.Image:
        """The picture that they make."""
        return merged(tiles, self.size, rows=self.rows, columns=self.columns, fade=self.overlap)


def enlarged(picture: Image.Image, params: Params, run: RunNetwork) -> tuple[Mosaic, list[Image.Image]]:
    """A decoded picture in its new size (RGB), in tiles, and how to put them together.

    Args:
        run: what runs an upscaler's network.

    Raises:
        Refused: it would be too large, or too many tiles.
    """
    picture, factor = flatten(picture, params.background), params.sd_upscale_factor
    pixels = picture.width * picture.height * factor**2
    if pixels > LARGEST:
        size = Summary(f"{factor:g}, which makes {pixels:,.0f} pixels")
        raise Refused("sd_upscale_factor", size, f"ask for at most {LARGEST:,} pixels")
    if params.sd_upscale_overlap >= min(params.width, params.height):  # by `fit`
        raise Refused("sd_upscale_overlap", params.sd_upscale_overlap, "give less than a tile's sides")
    if params.sd_upscale_upscaler != "None":
        picture = upscale(picture, factor, params.sd_upscale_upscaler, run).convert("RGB")
    mosaic = Mosaic(
        size=picture.size,
        rows=places(picture.height, params.height, params.sd_upscale_overlap),
        columns=places(picture.width, params.width, params.sd_upscale_overlap),
        tile=(params.width, params.height),
        overlap=params.sd_upscale_overlap,
    )
    count = len(mosaic.rows) * len(mosaic.columns)
    if count > MOST_TILES:
        reason = f"they make {count:,} tiles; give larger ones, for a picture has at most {MOST_TILES:,}"
        raise Refused("width, height", mosaic.tile, reason)
    return mosaic, mosaic.cut(picture)


def tile_seeds(count: int, lot: int) -> list[int]:
    """By how much the seed of each tile is later than the picture's.

    >>> tile_seeds(5, 2)
    [0, 1, 1, 2, 2]
    """
    return [number // lot + number % lot for number in range(count)]
