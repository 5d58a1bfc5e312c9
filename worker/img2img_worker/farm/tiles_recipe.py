"""The recipes of pictures whose tiles are rendered one by one and merged: outpainting and SD upscale."""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import Any

from PIL import Image

from img2img_shared.errors import Refused
from img2img_shared.job import Input, Job
from img2img_shared.param_groups.sd_upscale_params import SdUpscaleParams
from img2img_shared.params import Params
from img2img_shared.roles import Role
from img2img_shared.seeds import shift_seed
from img2img_worker.engine.render import Render
from img2img_worker.farm.picture_recipe import FinishedPicture, img2img, with_size
from img2img_worker.farm.render_steps import RenderSteps
from img2img_worker.farm.served import Served
from img2img_worker.farm.side_by_side import side_by_side
from img2img_worker.pictures.composite import Composed
from img2img_worker.pictures.outpainting import GrowingPicture
from img2img_worker.pictures.picture_file import encode_picture
from img2img_worker.pictures.tiled_upscale import enlarged, enlarged_size, mosaic_of, tile_seeds

#: up to so many tiles, one worker renders all: they share its model calls, and need no way through the store
MOST_TILES_OF_ONE = 16


def outpaint(
    render: Render, pictures: Mapping[Role, bytes], served: Served, rendered: Iterable[bytes] | None = None
) -> RenderSteps[FinishedPicture]:
    """Render the tiles around a picture that grows, each with the next seed (A1111's Poor man's outpainting).

    Args:
        rendered: the rendered tiles as PNGs, if other workers have rendered them.
    """
    blur = 2 * render.params.outpaint_mask_blur
    changes = {"inpaint_full_res": False, "mask_blur_x": blur, "mask_blur_y": blur}
    grow = partial(_lay_out, pictures["image"], render.params, served)
    growing = grow()
    tiles, params = growing.tiles(), growing.params.model_copy(update=changes)

    def way(number: int) -> RenderSteps[FinishedPicture]:
        own = {"image": _png(tiles[number].picture), "mask": _png(tiles[number].mask)}
        each = replace(render, params=params, seed=shift_seed(render.seed, number))
        return img2img(each, {**pictures, **own}, served, tiles[number].latent_mask)

    if params.outpaint_tile is not None:
        tile = yield from way(_check_tile(params.outpaint_tile, len(tiles)))
        return replace(tile, maps={})
    if rendered is not None:
        return _from_rendered_tiles(way(0), growing.finished(map(_open, rendered)), has_mask=True)
    del growing  # as in `img2img`
    made = yield from side_by_side([way(number) for number in range(len(tiles))])
    finished = grow().finished([each.composed.picture for each in made])
    return replace(made[0], composed=Composed(picture=finished), maps={})


def _lay_out(image: bytes, params: Params, served: Served) -> GrowingPicture:
    with served.decoder.decoded(image, None) as (picture, _):
        return GrowingPicture(picture, with_size(params, picture.size, served))


def _check_tile(number: int, count: int) -> int:
    if number >= count:
        raise Refused("outpaint_tile", number, f"this picture has {count} tiles; give 0 to {count - 1}")
    return number


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """The tiles of a picture, each to be rendered as an image of its own."""

    #: for all tiles
    params: Params
    #: pictures and parameters of each tile, beside those of the picture, in order
    each: Iterator[tuple[Mapping[Role, bytes], Mapping[str, Any]]]


def split_into_tiles(
    job: Job, index: int, item: Input, pictures: Mapping[Role, bytes], served: Served
) -> Tiles | None:
    """The tiles of an image, if there are enough of them for other workers to help, or None.

    Raises:
        Refused: names the field: the picture cannot be read, or the result would be too large.
    """
    params = job.params_of(item)
    seed, subseed = job.seeds(index, item)
    own: dict[str, Any] = {"images_per_input": 1}
    own |= {"output_format": "png", "quality": None, "seed": seed, "subseed": subseed}
    own |= {"return_mask": False, "return_mask_composite": False}
    own["control"] = tuple(unit.model_copy(update={"save_detected_map": False}) for unit in params.control)
    if params.sd_upscale:
        return _upscaled_tiles(params, own, pictures["image"], served)
    if params.outpaint and params.outpaint_method == "tiles" and params.outpaint_tile is None:
        growing = _lay_out(pictures["image"], params, served)
        if (count := len(growing.tiles())) > MOST_TILES_OF_ONE:
            numbers = ({"outpaint_tile": number, "seed": seed} for number in range(count))
            return Tiles(params=growing.params.model_copy(update=own), each=zip(repeat({}), numbers))
    return None


def _upscaled_tiles(params: Params, own: dict[str, Any], image: bytes, served: Served) -> Tiles | None:
    with served.decoder.decoded(image, None) as (picture, _):
        params = with_size(params, picture.size, served)
        count = len(mosaic_of(enlarged_size(picture.size, params), params))
    if count <= MOST_TILES_OF_ONE:
        return None
    each_seed = tile_seeds(count, params, own["seed"], own["subseed"])
    seeds = ({"seed": seed, "subseed": subseed} for seed, subseed in each_seed)
    plain = {name: field.default for name, field in SdUpscaleParams.model_fields.items()}
    each = zip(({"image": tile} for tile in _cut(params, image, served)), seeds, strict=True)
    return Tiles(params=params.model_copy(update=plain | own), each=each)


def _cut(params: Params, image: bytes, served: Served) -> Iterator[bytes]:
    with served.decoder.decoded(image, None) as (decoded, _):
        mosaic, picture = enlarged(decoded, params, served.run_network(params))
        for tile in mosaic.cut(picture):
            yield _png(tile)


def sd_upscale(
    render: Render,
    pictures: Mapping[Role, bytes],
    served: Served,
    rendered: Iterable[bytes] | None = None,
) -> RenderSteps[FinishedPicture]:
    """Enlarge a picture, and render its tiles (A1111's SD upscale).

    Args:
        rendered: the rendered tiles as PNGs, if other workers have rendered them.
    """
    with served.decoder.decoded(pictures["image"], None) as (picture, _):
        params = with_size(render.params, picture.size, served)
        if rendered is not None:
            mosaic = mosaic_of(enlarged_size(picture.size, params), params)
            blank = {**pictures, "image": _png(Image.new("RGB", mosaic.tile))}
            # an infotext must not tell the hash of what is not the first tile
            own = params.model_copy(update={"save_init_img": False})
            way = img2img(replace(render, params=own), blank, served)
            return _from_rendered_tiles(way, mosaic.merged(map(_open, rendered)), has_mask="mask" in pictures)
        mosaic, picture = enlarged(picture, params, served.run_network(params))
        tiles = list(mosaic.cut(picture))
    ways = []
    each_seed = tile_seeds(len(tiles), params, render.seed, render.subseed)
    for tile, (seed, subseed) in zip(tiles, each_seed, strict=True):
        each = replace(render, params=params, seed=seed, subseed=subseed)
        ways.append(img2img(each, {**pictures, "image": _png(tile)}, served))
    made = yield from side_by_side(ways)
    finished = Composed(picture=mosaic.merged([each.composed.picture for each in made]))
    return replace(made[0], composed=finished, maps={})


def _from_rendered_tiles(
    first: RenderSteps[FinishedPicture], finished: Image.Image, *, has_mask: bool
) -> FinishedPicture:
    """A picture whose tiles other workers have rendered; its infotext is its first tile's."""
    render, *_ = next(first)
    return FinishedPicture(composed=Composed(picture=finished), passes=(render,), has_mask=has_mask)


_png = partial(encode_picture, output_format="png")


def _open(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB")
