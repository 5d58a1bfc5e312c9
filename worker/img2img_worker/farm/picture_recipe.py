"""The recipes of single pictures: txt2img, with its hires fix, and img2img."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2img_shared.params import Params
from img2img_shared.roles import Role
from img2img_worker.engine.render import Render
from img2img_worker.farm import hires_recipe
from img2img_worker.farm.hires_recipe import hires_fix
from img2img_worker.farm.render_steps import RenderSteps
from img2img_worker.farm.served import Served
from img2img_worker.farm.soft_inpainting_recipe import soft_inpaint
from img2img_worker.farm.unit_pictures import PreparedUnits
from img2img_worker.pictures.colour import correct_colours
from img2img_worker.pictures.composite import Composed, compose
from img2img_worker.pictures.decode import hash_of_pixels
from img2img_worker.pictures.extras_picture import Pixels
from img2img_worker.pictures.prepare import prepare
from img2img_worker.pictures.size import fitted_size


@dataclass(frozen=True, kw_only=True, eq=False)
class FinishedPicture:
    """A finished picture, and the renders that made it, in order."""

    composed: Composed
    passes: tuple[Render, ...]
    #: earlier results of a loop that are wanted beside it
    earlier: "tuple[FinishedPicture, ...]" = ()
    #: whether a mask came with the picture, even an empty one
    has_mask: bool = False
    #: the control pictures that are wanted, by their names beside it
    maps: Mapping[str, Image.Image] = field(default_factory=dict)


def txt2img(render: Render, pictures: Mapping[Role, bytes], served: Served) -> RenderSteps[FinishedPicture]:
    """Render from noise, and enlarge by the hires fix if that is on."""
    params = render.params
    sizes = [(params.width, params.height)]
    if params.enable_hr:
        sizes.append(hires_recipe.final_size(params, served.vae_factor))
    units = PreparedUnits(params, sizes, pictures, served.control_tools)
    render = replace(render, controls=units.controls())
    passes: tuple[Render, ...] = (render,)
    if params.enable_hr:
        wanted = params.hr_checkpoint_name
        title = served.own_title if wanted in (None, served.model) else served.other_title(wanted)
        refiner = params.refiner_checkpoint and served.other_title(params.refiner_checkpoint)
        titles = zip(hires_recipe.PASSES, (served.own_title, title), strict=True)
        first, second, pixels = yield from hires_fix(
            render,
            served.vae_factor,
            units.controls(1),
            served.run_network(params),
            checkpoint=None if title == served.own_title else wanted,
            refined=[name for name, each in titles if each != refiner],
            is_interrupted=served.is_interrupted,
        )
        passes = (first, second)
    else:
        (pixels,) = yield [render]
    result = _restore_faces(units.finish_result(pixels), params, served)
    return FinishedPicture(composed=Composed(picture=Image.fromarray(result)), passes=passes, maps=units.maps)


def img2img(
    render: Render,
    pictures: Mapping[Role, bytes],
    served: Served,
    repainted: Image.Image | None = None,
    colours: NDArray[np.uint8] | None = None,
) -> RenderSteps[FinishedPicture]:
    """Render from a picture, with a mask if there is one.

    Args:
        repainted: the mask of what is repainted, if it differs from what shows (L, of the picture's size).
        colours: see `Prepared.colours`, of another picture than this.
    """
    image, mask = pictures["image"], pictures.get("mask")
    run = served.run_network(render.params)
    with served.decoder.decoded(image, mask) as decoded:
        params = with_size(render.params, decoded[0].size, served)
        prepared = prepare(*decoded, params, served.vae_factor, run)
        if repainted is not None:
            plain = {"mask_blur_x": 0, "mask_blur_y": 0, "inpainting_mask_invert": 0}
            sharp = params.model_copy(update=plain)
            inner = prepare(decoded[0], repainted, sharp, served.vae_factor, run)
            prepared = replace(inner, cond_mask=prepared.cond_mask)
    units = PreparedUnits(params, [(params.width, params.height)], pictures, served.control_tools)
    render = replace(
        render,
        params=params,
        pixels=prepared.pixels,
        latent_size=prepared.latent_size,
        mask=prepared.mask,
        cond_mask=prepared.cond_mask,
        controls=units.controls(),
        init_hash=hash_of_pixels(image) if params.save_init_img else None,
    )
    opening = None
    if params.soft_inpainting and prepared.mask is not None:
        levels = served.levels(render.latent_size)
        pixels, opening = yield from soft_inpaint(render, prepared.mask, levels)
    else:
        (pixels,) = yield [render]
    result = Image.fromarray(_restore_faces(units.finish_result(pixels), params, served))
    if prepared.colours is not None:
        result = correct_colours(result, prepared.colours if colours is None else colours)
    composed = Composed(picture=result)
    if prepared.mask is not None:
        # decoded again: a picture of any size must not stay in memory while the engine works
        with served.decoder.decoded(image, mask) as decoded:
            composed = compose(result, *decoded, params, opening, run)
    return FinishedPicture(composed=composed, passes=(render,), has_mask=mask is not None, maps=units.maps)


def _restore_faces(pixels: Pixels, params: Params, served: Served) -> Pixels:
    if not params.restore_faces:
        return pixels
    return served.restore_faces(params.face_restoration_model, pixels, params.code_former_weight)


def with_size(params: Params, size: tuple[int, int], served: Served) -> Params:
    """`params` with the width and height that `fit` gives a picture of `size`."""
    if params.fit is None:
        return params
    width, height = fitted_size(
        size, params.fit, native_side=served.native_side, multiple=served.side_multiple
    )
    return params.model_copy(update={"width": width, "height": height, "fit": None})
