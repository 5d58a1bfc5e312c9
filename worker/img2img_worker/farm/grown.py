"""A picture that grows side after side: A1111's "Outpainting mk2"."""

from collections.abc import Mapping
from dataclasses import replace

from img2img_shared.modes import InpaintingFill
from img2img_shared.roles import Role
from img2img_worker.engine.render import Render
from img2img_worker.farm.made import Made, from_picture, sized
from img2img_worker.farm.render_steps import RenderSteps
from img2img_worker.farm.served import Served
from img2img_worker.pictures.composite import Composed
from img2img_worker.pictures.growing_side import GrowingSide, growth
from img2img_worker.pictures.infotext import encode_picture


def grown(render: Render, pictures: Mapping[Role, bytes], served: Served) -> RenderSteps[Made]:
    """img2img of what is beyond each side, all with one seed; the first side's render is told."""
    with served.decoder.decoded(pictures["image"], None) as (decoded, _):
        params = sized(render.params, decoded.size, served)
        picture = decoded.convert("RGB")
    steps = list(growth(picture.size, params))
    blur = 4 * params.outpaint_mask_blur
    changes: dict[str, object] = {
        "inpaint_full_res": False,
        "inpainting_fill": InpaintingFill.ORIGINAL,
        "mask_blur_x": blur if any(side in ("left", "right") for side, _ in steps) else 0,
        "mask_blur_y": blur if any(side in ("up", "down") for side, _ in steps) else 0,
    }
    made: list[Made] = []
    for side, pixels in steps:
        growing = GrowingSide(picture, side, pixels, params)
        tile = growing.tile
        size = {"width": tile.picture.width, "height": tile.picture.height}
        own = {"image": encode_picture(tile.picture, "png"), "mask": encode_picture(tile.mask, "png")}
        each = replace(render, params=params.model_copy(update=changes | size))
        result = yield from from_picture(each, {**pictures, **own}, served, tile.latent_mask)
        picture = growing.finished(result.composed.picture)
        made.append(result)
    return replace(made[0], composed=Composed(picture=picture), maps={})
