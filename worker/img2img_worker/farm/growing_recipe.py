"""The recipe of pictures that grow one side after the other: A1111's "Outpainting mk2"."""

from collections.abc import Mapping
from dataclasses import replace

from img2img_shared.modes import InpaintingFill
from img2img_shared.roles import Role
from img2img_worker.engine.render import Render
from img2img_worker.farm.picture_recipe import FinishedPicture, img2img, with_size
from img2img_worker.farm.render_steps import RenderSteps
from img2img_worker.farm.served import Served
from img2img_worker.pictures.composite import Composed
from img2img_worker.pictures.growing_side import GrowingSide, growth
from img2img_worker.pictures.picture_file import encode_picture


def grow_sides(
    render: Render, pictures: Mapping[Role, bytes], served: Served
) -> RenderSteps[FinishedPicture]:
    """Render what is beyond each side in turn, all with one seed; the infotext is the first side's."""
    with served.decoder.decoded(pictures["image"], None) as (decoded, _):
        params = with_size(render.params, decoded.size, served)
        picture = decoded.convert("RGB")
    steps = list(growth(picture.size, params))
    blur = 4 * params.outpaint_mask_blur
    changes: dict[str, object] = {
        "inpaint_full_res": False,
        "inpainting_fill": InpaintingFill.ORIGINAL,
        "mask_blur_x": blur if any(side in ("left", "right") for side, _ in steps) else 0,
        "mask_blur_y": blur if any(side in ("up", "down") for side, _ in steps) else 0,
    }
    made: list[FinishedPicture] = []
    for side, pixels in steps:
        growing = GrowingSide(picture, side, pixels, params)
        tile = growing.tile
        size = {"width": tile.picture.width, "height": tile.picture.height}
        own = {"image": encode_picture(tile.picture, "png"), "mask": encode_picture(tile.mask, "png")}
        each = replace(render, params=params.model_copy(update=changes | size))
        result = yield from img2img(each, {**pictures, **own}, served, tile.latent_mask)
        picture = growing.finished(result.composed.picture)
        made.append(result)
    return replace(made[0], composed=Composed(picture=picture), maps={})
