"""Pictures whose tiles are rendered apart, and merged."""

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
from img2img_shared.seeds import shifted
from img2img_worker.engine.render import Render
from img2img_worker.farm.made import Made, from_picture, sized
from img2img_worker.farm.render_steps import RenderSteps
from img2img_worker.farm.served import Served
from img2img_worker.farm.side_by_side import side_by_side
from img2img_worker.pictures.composite import Composed
from img2img_worker.pictures.infotext import encode_picture
from img2img_worker.pictures.outpainting import GrowingPicture
from img2img_worker.pictures.tiled_upscale import enlarged, enlarged_size, mosaic_of, tile_seeds

#: tiles that a worker renders by itself: they share its model calls, and no round through the store is needed
MOST_TILES_OF_ONE = 16


def outpainted(
    render: Render, pictures: Mapping[Role, bytes], served: Served, rendered: Iterable[bytes] | None = None
) -> RenderSteps[Made]:
    """img2img of the tiles of a picture that grows, each with the next seed.

    Args:
        rendered: PNGs of what they have become, where others have made that.
    """
    blur = 2 * render.params.outpaint_mask_blur
    changes = {"inpaint_full_res": False, "mask_blur_x": blur, "mask_blur_y": blur}
    grow = partial(_growing, pictures["image"], render.params, served)
    growing = grow()
    tiles, params = growing.tiles(), growing.params.model_copy(update=changes)

    def way(number: int) -> RenderSteps[Made]:
        own = {"image": _png(tiles[number].picture), "mask": _png(tiles[number].mask)}
        each = replace(render, params=params, seed=shifted(render.seed, number))
        return from_picture(each, {**pictures, **own}, served, tiles[number].latent_mask)

    if params.outpaint_tile is not None:
        tile = yield from way(_checked_number(params.outpaint_tile, len(tiles)))
        return replace(tile, maps={})
    if rendered is not None:
        return _put_together(way(0), growing.finished(map(_opened, rendered)), has_mask=True)
    del growing  # as in `from_picture`
    made = yield from side_by_side([way(number) for number in range(len(tiles))])
    finished = grow().finished([each.composed.picture for each in made])
    return replace(made[0], composed=Composed(picture=finished), maps={})


def _growing(image: bytes, params: Params, served: Served) -> GrowingPicture:
    with served.decoder.decoded(image, None) as (picture, _):
        return GrowingPicture(picture, sized(params, picture.size, served))


def _checked_number(number: int, count: int) -> int:
    if number >= count:
        raise Refused("outpaint_tile", number, f"this picture has {count} tiles; give 0 to {count - 1}")
    return number


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """The tiles of a picture, to be rendered each as an image of its own."""

    #: of all
    params: Params
    #: pictures and parameters of each, beside those of the picture, in their order
    each: Iterator[tuple[Mapping[Role, bytes], Mapping[str, Any]]]


def split_into_tiles(
    job: Job, index: int, item: Input, pictures: Mapping[Role, bytes], served: Served
) -> Tiles | None:
    """The tiles of an image that has so many that any worker may render some; None: it has not.

    Raises:
        Refused: names the field: a picture that cannot be read, or too large a result.
    """
    params = job.params_of(item)
    seed, subseed = job.seeds(index, item)
    own: dict[str, Any] = {"images_per_input": 1}
    own |= {"output_format": "png", "quality": None, "seed": seed, "subseed": subseed}
    own |= {"return_mask": False, "return_mask_composite": False}
    own["control"] = tuple(unit.model_copy(update={"save_detected_map": False}) for unit in params.control)
    if params.sd_upscale:
        return _spread_upscaled(params, seed, own, pictures["image"], served)
    if params.outpaint and params.outpaint_method == "tiles" and params.outpaint_tile is None:
        growing = _growing(pictures["image"], params, served)
        if (count := len(growing.tiles())) > MOST_TILES_OF_ONE:
            numbers = ({"outpaint_tile": number, "seed": seed} for number in range(count))
            return Tiles(params=growing.params.model_copy(update=own), each=zip(repeat({}), numbers))
    return None


def _spread_upscaled(
    params: Params, seed: int, own: dict[str, Any], image: bytes, served: Served
) -> Tiles | None:
    with served.decoder.decoded(image, None) as (picture, _):
        params = sized(params, picture.size, served)
        count = len(mosaic_of(enlarged_size(picture.size, params), params))
    if count <= MOST_TILES_OF_ONE:
        return None
    seeds = ({"seed": shifted(seed, later)} for later in tile_seeds(count, params.sd_upscale_batch))
    plain = {name: field.default for name, field in SdUpscaleParams.model_fields.items()}
    each = zip(({"image": tile} for tile in _cut(params, image, served)), seeds, strict=True)
    return Tiles(params=params.model_copy(update=plain | own), each=each)


def _cut(params: Params, image: bytes, served: Served) -> Iterator[bytes]:
    with served.decoder.decoded(image, None) as (decoded, _):
        mosaic, picture = enlarged(decoded, params, served.run_network(params))
        for tile in mosaic.cut(picture):
            yield _png(tile)


def sd_upscaled(
    render: Render,
    pictures: Mapping[Role, bytes],
    served: Served,
    rendered: Iterable[bytes] | None = None,
) -> RenderSteps[Made]:
    """img2img of the tiles of a picture that was enlarged.

    Args:
        rendered: PNGs of what they have become, where others have made that.
    """
    with served.decoder.decoded(pictures["image"], None) as (picture, _):
        params = sized(render.params, picture.size, served)
        if rendered is not None:
            mosaic = mosaic_of(enlarged_size(picture.size, params), params)
            blank = {**pictures, "image": _png(Image.new("RGB", mosaic.tile))}
            way = from_picture(replace(render, params=params), blank, served)
            return _put_together(way, mosaic.merged(map(_opened, rendered)), has_mask="mask" in pictures)
        mosaic, picture = enlarged(picture, params, served.run_network(params))
        tiles = list(mosaic.cut(picture))
    ways = []
    for tile, later in zip(tiles, tile_seeds(len(tiles), params.sd_upscale_batch), strict=True):
        each = replace(render, params=params, seed=shifted(render.seed, later))
        ways.append(from_picture(each, {**pictures, "image": _png(tile)}, served))
    made = yield from side_by_side(ways)
    finished = Composed(picture=mosaic.merged([each.composed.picture for each in made]))
    return replace(made[0], composed=finished, maps={})


def _put_together(first: RenderSteps[Made], finished: Image.Image, *, has_mask: bool) -> Made:
    """A picture whose tiles others have rendered; it is told of as its first tile is."""
    render, *_ = next(first)
    return Made(composed=Composed(picture=finished), passes=(render,), has_mask=has_mask)


_png = partial(encode_picture, output_format="png")


def _opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB")
