"""A1111's request as the farm's parameters; what has no meaning here may have its neutral value only."""

from collections.abc import Mapping
from typing import Any

from img2img_gateway.sdapi.option_table import parameters_of
from img2img_gateway.sdapi.request import Img2ImgRequest, RenderRequest, Txt2ImgRequest
from img2img_shared.errors import Refused
from img2img_shared.names import split_sampler, without_effect
from img2img_shared.params import CELL, Params, read_params

_OF_MASKS = frozenset(
    {
        "mask_blur_x",
        "mask_blur_y",
        "mask_round",
        "inpainting_fill",
        "inpaint_full_res",
        "inpaint_full_res_padding",
        "inpainting_mask_invert",
    }
)

#: txt2img: a mask over all with "latent nothing" makes z0 nothing, and full strength the rest; the settings
#: of img2img have no part in it
_PURE_NOISE: Mapping[str, Any] = {
    "txt2img": True,
    "denoising_strength": 1.0,
    "inpainting_fill": 3,
    "inpaint_full_res": False,
    "mask_blur_x": 0,
    "mask_blur_y": 0,
    "initial_noise_multiplier": 1.0,
    "extra_noise": 0.0,
    "color_correction": False,
    "fix_steps": False,
}


def read_request(request: RenderRequest, prompts: tuple[str, str], options: Mapping[str, Any]) -> Params:
    """The parameters that a request means, with `prompts` (positive, negative) as they are after styles.

    Args:
        options: those that are set, the request's override_settings over the tenant's.

    Raises:
        Refused: names the field.
    """
    refuse_unsupported(request)
    sampler, scheduler = split_sampler(
        request.sampler_name or request.sampler_index or "Euler", request.scheduler
    )
    inert = without_effect(sampler, scheduler, txt2img=isinstance(request, Txt2ImgRequest))
    values = parameters_of(options, sampler) | _own_parameters(request)
    values = {name: value for name, value in values.items() if name not in inert}
    values |= {
        "prompt": prompts[0],
        "negative_prompt": prompts[1],
        "sampler_name": sampler,
        "scheduler": scheduler,
        "images_per_input": request.batch_size,
        "odd_size": any(side % CELL for side in (request.width, request.height)),
    }
    if isinstance(request, Txt2ImgRequest):
        values |= _PURE_NOISE
    elif isinstance(request, Img2ImgRequest) and not request.mask:
        values = {name: value for name, value in values.items() if name not in _OF_MASKS}
    return read_params(values)


def refuse_unsupported(request: RenderRequest) -> None:
    """That a request asks for nothing that is not here.

    Raises:
        Refused: names the field.
    """
    for name in ("restore_faces", "tiling"):
        if getattr(request, name) and name not in Params.model_fields:
            raise Refused(name, True, "false")
    for name in ("firstpass_image", "latent_mask"):
        if getattr(request, name, None):
            raise Refused(name, "a picture", "none")
    if request.refiner_checkpoint not in (None, "", "None", "none"):
        raise Refused("refiner_checkpoint", request.refiner_checkpoint, "none")
    if isinstance(request, Txt2ImgRequest) and request.enable_hr:
        raise Refused("enable_hr", True, "false: render at the size you want, or pass the result to img2img")


def _own_parameters(request: RenderRequest) -> dict[str, Any]:
    """What a request says by fields of a parameter's name; null is what it leaves to the settings."""
    names = type(request).model_fields.keys() & Params.model_fields.keys()
    found = {name: value for name in names if (value := getattr(request, name)) is not None}
    if min(request.seed_resize_from_w, request.seed_resize_from_h) <= 0:
        found |= {"seed_resize_from_w": 0, "seed_resize_from_h": 0}
    if found.get("s_tmax") == 0:
        found["s_tmax"] = None  # no upper end
    if isinstance(request, Img2ImgRequest) and request.mask_blur is not None:
        found |= {"mask_blur_x": request.mask_blur, "mask_blur_y": request.mask_blur}
    return found
