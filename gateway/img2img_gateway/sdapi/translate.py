"""Translates A1111's request into the farm's parameters; fields without meaning here must be neutral."""

from collections.abc import Mapping
from typing import Any

from img2img_gateway.sdapi.option_table import OLD_HIRES_SIZE, parameters_of
from img2img_gateway.sdapi.request import Img2ImgRequest, RenderRequest, Txt2ImgRequest
from img2img_shared.errors import Refused, Summary
from img2img_shared.hires import old_first_size
from img2img_shared.param_fields import FACE_FIELDS, HIRES_FIELDS, SOFT_FIELDS
from img2img_shared.param_groups.output_params import CHURN
from img2img_shared.param_groups.size_params import CELL
from img2img_shared.params import Params
from img2img_shared.refusals import read_params
from img2img_shared.sampler_names import split_sampler, split_second_sampler
from img2img_shared.samplers import REFINER_OPTIONS, without_effect

_OF_MASKS = frozenset(
    {
        "mask_blur_x",
        "mask_blur_y",
        "mask_round",
        "inpainting_fill",
        "inpaint_full_res",
        "inpaint_full_res_padding",
        "inpainting_mask_invert",
        "soft_inpainting",
        *SOFT_FIELDS,
    }
)

#: parameters that settings may have, and that mean nothing to txt2img; but to its hires fix the last two
_OF_IMG2IMG = frozenset({"initial_noise_multiplier", "color_correction", "fix_steps"})
_OF_HIRES = frozenset({*HIRES_FIELDS, "extra_noise", "denoising_strength"})


def read_request(
    request: RenderRequest,
    prompts: tuple[str, str],
    options: Mapping[str, Any],
    scripts: Mapping[str, Any],
) -> Params:
    """The parameters of a request, with `prompts` (positive, negative) after styles.

    Args:
        options: the tenant's, overridden by the request's override_settings.
        scripts: parameters that its scripts set.

    Raises:
        Refused: names the field.
    """
    refuse_unsupported(request)
    sampler, scheduler = split_sampler(
        request.sampler_name or request.sampler_index or "Euler", request.scheduler
    )
    txt2img = isinstance(request, Txt2ImgRequest)
    inert = without_effect(sampler, scheduler, txt2img=txt2img)
    if isinstance(request, Txt2ImgRequest) and request.enable_hr:
        second, its_scheduler = split_second_sampler(request.hr_sampler_name, request.hr_scheduler)
        inert &= without_effect(second or sampler, its_scheduler or scheduler)
    set_by_options = parameters_of(options, sampler, txt2img=txt2img)
    churn = _churn_of(set_by_options)
    values = {**set_by_options, **scripts, **_own_parameters(request), **churn}
    values = {name: value for name, value in values.items() if name not in inert}
    values["add_churn_to_info"] = ", ".join(churn.keys() & values.keys())
    values |= {
        "prompt": prompts[0],
        "negative_prompt": prompts[1],
        "sampler_name": sampler,
        "scheduler": scheduler,
        "images_per_input": request.batch_size,
    }
    if not values.get("restore_faces"):
        values = {name: value for name, value in values.items() if name not in FACE_FIELDS}
    if isinstance(request, Txt2ImgRequest):
        values = _of_txt2img(request, values)
        if request.enable_hr and options.get(OLD_HIRES_SIZE):
            values = _to_its_size(values)
    elif isinstance(request, Img2ImgRequest):
        has_mask = request.mask or "outpaint" in scripts
        unused = HIRES_FIELDS if has_mask else {*HIRES_FIELDS, *_OF_MASKS}
        values = {name: value for name, value in values.items() if name not in unused}
    if request.refiner_checkpoint is None:
        values = {name: value for name, value in values.items() if name not in REFINER_OPTIONS}
    is_odd = any(values[side] % CELL for side in ("width", "height"))
    return read_params(values | {"odd_size": is_odd})


def refuse_unsupported(request: RenderRequest) -> None:
    """Refuse a request that asks for something unsupported.

    Raises:
        Refused: names the field.
    """
    if isinstance(request, Img2ImgRequest) and request.latent_mask and request.mask:
        raise Refused(
            "latent_mask", Summary("a picture"), "send a mask or a latent_mask, not both, as in A1111"
        )
    if isinstance(request, Txt2ImgRequest) and request.firstpass_image and request.enable_hr:
        raise Refused("firstpass_image", Summary("a picture"), "render from a picture with img2img instead")


def _churn_of(set_by_options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `CHURN` that the settings change: they win over a request's own, and are in the infotext.

    (A1111: `Sampler.initialize`.)
    """
    fields = Params.model_fields
    chosen = {name: set_by_options[name] for name in CHURN if name in set_by_options}
    return {name: value for name, value in chosen.items() if value != fields[name].default}


def _of_txt2img(request: Txt2ImgRequest, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` that have a meaning for txt2img."""
    if request.enable_hr and request.denoising_strength is None:
        raise Refused("denoising_strength", None, "enable_hr needs it: give a number from 0 to 1")
    inert = _OF_IMG2IMG if request.enable_hr else _OF_IMG2IMG | _OF_HIRES
    kept = {name: value for name, value in values.items() if name not in inert}
    if request.firstphase_width or request.firstphase_height:
        kept |= {"width": request.firstphase_width, "height": request.firstphase_height}
    return {**kept, "txt2img": True}


def _to_its_size(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` of a hires fix whose width and height are those of the second pass."""
    size = values["width"], values["height"]
    if min(size) < 1:
        return dict(values)  # which is refused
    width, height = old_first_size(*size)
    return {**values, "hr_resize_x": size[0], "hr_resize_y": size[1], "width": width, "height": height}


def _own_parameters(request: RenderRequest) -> dict[str, Any]:
    """The request's fields that are parameters of the same name; null leaves them to the settings."""
    names = type(request).model_fields.keys() & Params.model_fields.keys()
    found = {name: value for name in names if (value := getattr(request, name)) is not None}
    if min(request.seed_resize_from_w, request.seed_resize_from_h) <= 0:
        found |= {"seed_resize_from_w": 0, "seed_resize_from_h": 0}
    if found.get("s_tmax") == 0:
        found["s_tmax"] = None  # no upper end
    if isinstance(request, Img2ImgRequest) and request.mask_blur is not None:
        found |= {"mask_blur_x": request.mask_blur, "mask_blur_y": request.mask_blur}
    return found
