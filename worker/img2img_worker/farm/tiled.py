"""Pictures whose tiles are rendered apart, and merged."""

from collections.abc import Mapping
from dataclasses import replace

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
from img2img_worker.pictures.sd_upscale import enlarged, tile_seeds


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


def sd_upscaled(render: Render, pictures: Mapping[Role, bytes], served: Served) -> Steps[Made]:
    """img2img of the tiles of a picture that was enlarged."""
    with served.decoder.decoded(pictures["image"], None) as (picture, _):
        params = sized(render.params, picture.size, served)
        mosaic, tiles = enlarged(picture, params, served.run_network(params))
    ways = []
    for tile, later in zip(tiles, tile_seeds(len(tiles), params.sd_upscale_batch), strict=True):
        own = {"image": encode_picture(tile, "png")}
        each = replace(render, params=params, seed=shifted(render.seed, later))
        ways.append(from_picture(each, {**pictures, **own}, served))
    made = yield from side_by_side(ways)
    finished = mosaic.merged([each.composed.picture for each in made])
    return replace(made[0], composed=Composed(picture=finished), maps={})
