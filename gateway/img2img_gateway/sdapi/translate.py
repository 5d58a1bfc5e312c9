"""A1111's request as the farm's parameters; what has no meaning here may have its neutral value only."""

from collections.abc import Mapping
from typing import Any

from img2img_gateway.sdapi.request import Img2ImgRequest, RenderRequest, Txt2ImgRequest
from img2img_shared.errors import Refused
from img2img_shared.names import ETA_NOISE, SAMPLERS, split_sampler
from img2img_shared.params import Params, read_params

_FORMATS = {"png": "png", "jpg": "jpeg", "webp": "webp"}
#: A1111's default, which clients send to checkpoints of any kind; only edit checkpoints read it
_IMAGE_CFG_SCALE = 1.5
#: Forge's default, which its clients send likewise; only Flux.1 dev reads it
_DISTILLED_CFG_SCALE = 3.5


def read_request(
    request: RenderRequest, prompts: tuple[str, str], options: Mapping[str, Any], *, masked: bool
) -> Params:
    """The parameters that a request means, with `prompts` (positive, negative) as they are after styles.

    Args:
        options: every option, those of the request's override_settings over the tenant's.
        masked: it brings a mask.

    Raises:
        Refused: names the field.
    """
    refuse_unsupported(request)
    sampler, scheduler = split_sampler(
        request.sampler_name or request.sampler_index or "Euler", request.scheduler or "Automatic"
    )
    values: dict[str, Any] = {
        "prompt": prompts[0],
        "negative_prompt": prompts[1],
        "sampler_name": sampler,
        "scheduler": scheduler,
        "subseed_strength": request.subseed_strength,
        "clip_skip": options["CLIP_stop_at_last_layers"],
        "noise_source": str(options["randn_source"]).lower(),
        "output_format": _FORMATS[options["samples_format"]],
        "images_per_input": request.batch_size,
    }
    values |= {name: getattr(request, name) for name in ("steps", "cfg_scale", "width", "height")}
    values |= {name: max(-1, getattr(request, name)) for name in ("seed", "subseed")}
    if request.seed_resize_from_w > 0 and request.seed_resize_from_h > 0:
        values |= {name: getattr(request, name) for name in ("seed_resize_from_w", "seed_resize_from_h")}
    distilled = request.distilled_cfg_scale
    values["distilled_cfg_scale"] = None if distilled == _DISTILLED_CFG_SCALE else distilled
    values |= _sampler_options(request, sampler, options)
    if isinstance(request, Img2ImgRequest):
        values |= _img2img(request, options, masked=masked)
    else:
        values |= _txt2img()
    return read_params(values)


def refuse_unsupported(request: RenderRequest) -> None:
    """That a request asks for nothing that is not here.

    Raises:
        Refused: names the field.
    """
    for name in request.alwayson_scripts:
        raise Refused("alwayson_scripts", name, f"none: always on script {name} not found")
    if request.script_name:
        raise Refused("script_name", request.script_name, f"none: Script '{request.script_name}' not found")
    for name in ("restore_faces", "tiling"):
        if getattr(request, name):
            raise Refused(name, True, "false")
    for name in ("firstpass_image", "latent_mask"):
        if getattr(request, name, None):
            raise Refused(name, "a picture", "none")
    if request.refiner_checkpoint not in (None, "", "None"):
        raise Refused("refiner_checkpoint", request.refiner_checkpoint, "none")
    if isinstance(request, Txt2ImgRequest) and request.enable_hr:
        raise Refused("enable_hr", True, "false: render at the size you want, or pass the result to img2img")


def _sampler_options(request: RenderRequest, sampler: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that `sampler` has: a request's own, else the settings'. Others never changed a picture."""
    known = SAMPLERS[sampler].options
    eta_option = "eta_ancestral" if known >= ETA_NOISE else "eta_ddim"
    given = {
        "eta": options[eta_option] if request.eta is None else request.eta,
        **{
            name: options[name] if getattr(request, name) is None else getattr(request, name)
            for name in ("s_churn", "s_tmin", "s_tmax", "s_noise", "s_min_uncond")
        },
    }
    given["s_tmax"] = given["s_tmax"] or None  # 0 is no upper end
    return {name: value for name, value in given.items() if name in known or name == "s_min_uncond"}


def _img2img(request: Img2ImgRequest, options: Mapping[str, Any], *, masked: bool) -> dict[str, Any]:
    own = ("denoising_strength", "resize_mode")
    mask = (
        "mask_blur_x",
        "mask_blur_y",
        "mask_round",
        "inpainting_fill",
        "inpaint_full_res",
        "inpaint_full_res_padding",
        "inpainting_mask_invert",
    )
    values = {name: getattr(request, name) for name in own + (mask if masked else ())}
    if masked and request.mask_blur is not None:
        values["mask_blur_x"] = values["mask_blur_y"] = request.mask_blur
    multiplier = request.initial_noise_multiplier
    scale = request.image_cfg_scale
    return {
        **values,
        "initial_noise_multiplier": options["initial_noise_multiplier"] if multiplier is None else multiplier,
        "extra_noise": options["img2img_extra_noise"],
        "color_correction": options["img2img_color_correction"],
        "background": options["img2img_background_color"],
        "fix_steps": options["img2img_fix_steps"],
        "image_cfg_scale": None if scale == _IMAGE_CFG_SCALE else scale,
    }


def _txt2img() -> dict[str, Any]:
    """Pure noise, exactly: a mask over all with "latent nothing" makes z0 nothing; full strength the rest."""
    return {
        "denoising_strength": 1.0,
        "inpainting_fill": 3,
        "inpaint_full_res": False,
        "mask_blur_x": 0,
        "mask_blur_y": 0,
    }
