"""Enlarges a picture and cuts it into tiles: A1111's "SD upscale"."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from img2img_shared.errors import Refused, Summary
from img2img_shared.params import Params
from img2img_shared.seeds import seeds_of, shift_seed
from img2img_shared.tile_places import places
from img2img_worker.pictures.decode import flatten
from img2img_worker.pictures.outpainting import MOST_TILES
from img2img_worker.pictures.resize import LARGEST
from img2img_worker.pictures.tiles import merged
from img2img_worker.pictures.upscale import RunNetwork, upscale, upscaled_size


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """How a picture of a certain size is cut into tiles."""

    size: tuple[int, int]
    #: where tiles begin
    rows: Sequence[int]
    columns: Sequence[int]
    #: width and height of a tile
    tile: tuple[int, int]
    overlap: int

    def __len__(self) -> int:
        """The number of tiles."""
        return len(self.rows) * len(self.columns)

    def cut(self, picture: Image.Image) -> Iterator[Image.Image]:
        """The tiles, row by row; a picture smaller than a tile is padded with black above and to the left."""
        width, height = self.tile
        for y in self.rows:
            for x in self.columns:
                yield picture.crop((x, y, x + width, y + height))

    def merged(self, tiles: Iterable[Image.Image]) -> Image.Image:
        """The picture of rendered tiles, row by row."""
        return merged(tiles, self.size, rows=self.rows, columns=self.columns, fade=self.overlap)


def enlarged_size(size: tuple[int, int], params: Params) -> tuple[int, int]:
    """Width and height that `enlarged` gives a picture of `size`.

    Raises:
        Refused: it would be too large.
    """
    factor = params.sd_upscale_factor
    pixels = size[0] * size[1] * factor**2
    if pixels > LARGEST:
        given = Summary(f"{factor:g}, which makes {pixels:,.0f} pixels")
        raise Refused("sd_upscale_factor", given, f"ask for at most {LARGEST:,} pixels")
    return size if params.sd_upscale_upscaler == "None" else upscaled_size(size, factor)


def mosaic_of(size: tuple[int, int], params: Params) -> Mosaic:
    """How a picture that was enlarged to `size` is cut.

    Raises:
        Refused: there would be too many tiles, or they overlap entirely.
    """
    if params.sd_upscale_overlap >= min(params.width, params.height):  # by `fit`
        raise Refused("sd_upscale_overlap", params.sd_upscale_overlap, "give less than a tile's sides")
    mosaic = Mosaic(
        size=size,
        rows=places(size[1], params.height, params.sd_upscale_overlap),
        columns=places(size[0], params.width, params.sd_upscale_overlap),
        tile=(params.width, params.height),
        overlap=params.sd_upscale_overlap,
    )
    if len(mosaic) > MOST_TILES:
        reason = (
            f"they make {len(mosaic):,} tiles; give larger ones: a picture may have at most {MOST_TILES:,}"
        )
        raise Refused("width, height", mosaic.tile, reason)
    return mosaic


def enlarged(picture: Image.Image, params: Params, run: RunNetwork) -> tuple[Mosaic, Image.Image]:
    """The enlarged picture (RGB), after the mosaic into which it is cut.

    Args:
        run: runs an upscaler's network.

    Raises:
        Refused: it would be too large, or have too many tiles.
    """
    mosaic = mosaic_of(enlarged_size(picture.size, params), params)
    picture = flatten(picture, params.background)
    if params.sd_upscale_upscaler != "None":
        picture = upscale(picture, params.sd_upscale_factor, params.sd_upscale_upscaler, run).convert("RGB")
    return mosaic, picture


def tile_seeds(count: int, params: Params, seed: int, subseed: int) -> list[tuple[int, int]]:
    """(seed, subseed) of each tile, from the picture's: each batch of tiles begins at the next seed."""
    lot, strength = params.sd_upscale_batch, params.subseed_strength
    return [
        seeds_of(shift_seed(seed, number // lot), subseed, strength, number % lot) for number in range(count)
    ]
