"""The recipe of A1111's "Loopback", which renders a picture again and again."""

from collections.abc import Mapping
from dataclasses import replace

from img2img_shared.loopback import Loop
from img2img_shared.modes import InpaintingFill
from img2img_shared.roles import Role
from img2img_shared.seeds import shift_seed
from img2img_worker.engine.render import Render
from img2img_worker.farm.picture_recipe import FinishedPicture, img2img, with_size
from img2img_worker.farm.render_steps import RenderSteps
from img2img_worker.farm.served import Served
from img2img_worker.pictures.colour import colour_target
from img2img_worker.pictures.decode import flatten
from img2img_worker.pictures.picture_file import encode_picture


def loopback(render: Render, pictures: Mapping[Role, bytes], served: Served) -> RenderSteps[FinishedPicture]:
    """Render each result again with the next seed; masked content is filled only for the first render."""
    with served.decoder.decoded(pictures["image"], None) as (picture, _):
        params = with_size(render.params, picture.size, served)
        # A1111 takes them from the picture as it is sent, before it has the render's size
        flat = flatten(picture, params.background)
        is_first = params.loopback_color_target == "first"
        colours = colour_target(flat) if params.color_correction and is_first else None
    made: list[FinishedPicture] = []
    loop = Loop(
        loops=params.loopback_loops,
        first=params.denoising_strength,
        last=params.loopback_final_denoising_strength,
        curve=params.loopback_denoising_curve,
    )
    for number in range(params.loopback_loops):
        changes: dict[str, object] = {"denoising_strength": loop.strength(number)}
        if number:
            changes["inpainting_fill"] = InpaintingFill.ORIGINAL
            pictures = {**pictures, "image": encode_picture(made[-1].composed.picture, "png")}
        each = replace(render, params=params.model_copy(update=changes), seed=shift_seed(render.seed, number))
        result = yield from img2img(each, pictures, served, colours=colours)
        made = [*made, result] if params.loopback_return_all else [result]
    return replace(made[-1], earlier=tuple(made[:-1]), maps={})
