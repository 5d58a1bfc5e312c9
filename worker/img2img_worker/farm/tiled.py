"""Pictures whose tiles are rendered apart, and merged."""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from PIL import Image

from img2img_shared.job import Input, Job
from img2img_shared.param_groups.sd_upscale_params import SdUpscaleParams
from img2img_shared.params import Params
from img2img_shared.roles import Role
from img2img_shared.seeds import shifted
from img2img_worker.engine.render import Render
from img2img_worker.farm.hires import Steps
from img2img_worker.farm.made import Made, from_picture, sized
from img2img_worker.farm.served import Served
from img2img_worker.farm.side_by_side import side_by_side
from img2img_worker.pictures.composite import Composed
from img2img_worker.pictures.infotext import encode_picture
from img2img_worker.pictures.outpainting import GrowingPicture
from img2img_worker.pictures.sd_upscale import enlarged, enlarged_size, mosaic_of, tile_seeds

#: tiles that a worker renders by itself: they share its model calls, and no round through the store is needed
MOST_TILES_OF_ONE = 16


def outpainted(render: Render, pictures: Mapping[Role, bytes], served: Served) -> Steps[Made]:
    """img2img of the tiles of a picture that grows, each with the next seed."""
    blur = 2 * render.params.outpaint_mask_blur
    changes = {"inpaint_full_res": False, "mask_blur_x": blur, "mask_blur_y": blur}
    with served.decoder.decoded(pictures["image"], None) as (picture, _):
        params = sized(render.params, picture.size, served).model_copy(update=changes)
        tiles = GrowingPicture(picture, params).tiles()
    ways = []
    for number, tile in enumerate(tiles):
        own = {"image": encode_picture(tile.picture, "png"), "mask": encode_picture(tile.mask, "png")}
        each = replace(render, params=params, seed=shifted(render.seed, number))
        ways.append(from_picture(each, {**pictures, **own}, served, tile.latent_mask))
    made = yield from side_by_side(ways)
    results = [each.composed.picture for each in made]
    with served.decoder.decoded(pictures["image"], None) as (picture, _):  # as in `from_picture`
        finished = GrowingPicture(picture, params).finished(results)
    return replace(made[0], composed=Composed(picture=finished), maps={})


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """The tiles of a picture, to be rendered each as an image of its own."""

    #: of each, but for its seed
    params: Params
    #: PNG and seed of each, in their order
    each: Iterator[tuple[bytes, int]]


def spread(job: Job, index: int, item: Input, pictures: Mapping[Role, bytes], served: Served) -> Tiles | None:
    """The tiles of an image that has so many that any worker may render some; None: it has not.

    What has a mask stays together: each of its tiles sees the whole mask, as in A1111.

    Raises:
        Refused: names the field: a picture that cannot be read, or too large a result.
    """
    params = job.params_of(item)
    if not params.sd_upscale or "mask" in pictures:
        return None
    with served.decoder.decoded(pictures["image"], None) as (picture, _):
        params = sized(params, picture.size, served)
        count = len(mosaic_of(enlarged_size(picture.size, params), params))
    if count <= MOST_TILES_OF_ONE:
        return None
    seed, subseed = job.seeds(index, item)
    seeds = [shifted(seed, later) for later in tile_seeds(count, params.sd_upscale_batch)]
    plain = {name: field.default for name, field in SdUpscaleParams.model_fields.items()}
    own = {"images_per_input": 1, "output_format": "png", "quality": None, "seed": seed, "subseed": subseed}
    each = zip(_cut(params, pictures["image"], served), seeds, strict=True)
    return Tiles(params=params.model_copy(update=plain | own), each=each)


def _cut(params: Params, image: bytes, served: Served) -> Iterator[bytes]:
    with served.decoder.decoded(image, None) as (decoded, _):
        mosaic, picture = enlarged(decoded, params, served.run_network(params))
        for tile in mosaic.cut(picture):
            yield encode_picture(tile, "png")


def sd_upscaled(
    render: Render,
    pictures: Mapping[Role, bytes],
    served: Served,
    rendered: Iterable[bytes] | None = None,
) -> Steps[Made]:
    """img2img of the tiles of a picture that was enlarged.

    Args:
        rendered: PNGs of what they have become, where others have made that.
    """
    with served.decoder.decoded(pictures["image"], None) as (picture, _):
        params = sized(render.params, picture.size, served)
        if rendered is not None:
            mosaic = mosaic_of(enlarged_size(picture.size, params), params)
            finished = Composed(picture=mosaic.merged(map(_opened, rendered)))
            return Made(composed=finished, passes=(replace(render, params=params),))
        mosaic, picture = enlarged(picture, params, served.run_network(params))
        tiles = list(mosaic.cut(picture))
    ways = []
    for tile, later in zip(tiles, tile_seeds(len(tiles), params.sd_upscale_batch), strict=True):
        own = {"image": encode_picture(tile, "png")}
        each = replace(render, params=params, seed=shifted(render.seed, later))
        ways.append(from_picture(each, {**pictures, **own}, served))
    made = yield from side_by_side(ways)
    finished = Composed(picture=mosaic.merged([each.composed.picture for each in made]))
    return replace(made[0], composed=finished, maps={})


def _opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB")
