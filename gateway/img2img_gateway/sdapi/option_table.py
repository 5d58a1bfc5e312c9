"""A1111's options by name (v1.10.1), and one of its ControlNet: their defaults, and their meaning here.

An option that changes pictures is a parameter here, or must keep its default. All others (of the web page,
folders, memory) mean nothing to a farm: they are stored, and returned as they were sent.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import ValidationError

from img2img_shared.errors import Refused, Summary
from img2img_shared.param_fields import HIRES_FIELDS
from img2img_shared.params import Params
from img2img_shared.refusals import read_params, refusal
from img2img_shared.samplers import SAMPLERS, taker
from img2img_shared.sheets.grid import GridOptions
from img2img_shared.suggestions import unknown_name

#: characters of an option's value, written as JSON
LONGEST = 2_000

#: options and the parameters that they set under another name; all others have the parameter's own
_RENAMED = {
    "CLIP_stop_at_last_layers": "clip_skip",
    "randn_source": "noise_source",
    "samples_format": "output_format",
    "jpeg_quality": "quality",
    "img2img_extra_noise": "extra_noise",
    "img2img_color_correction": "color_correction",
    "img2img_fix_steps": "fix_steps",
    "img2img_background_color": "background",
    "face_restoration": "restore_faces",
    "ESRGAN_tile": "esrgan_tile",
    "ESRGAN_tile_overlap": "esrgan_tile_overlap",
    "DAT_tile": "dat_tile",
    "DAT_tile_overlap": "dat_tile_overlap",
    "SWIN_tile": "swin_tile",
    "SWIN_tile_overlap": "swin_tile_overlap",
    "SCUNET_tile": "scunet_tile",
    "SCUNET_tile_overlap": "scunet_tile_overlap",
    "eta_ancestral": "eta",
    "eta_ddim": "eta",
    "sd_vae": "vae",
    "token_merging_ratio_img2img": "token_merging_ratio",
}
#: of samplers that run on sigmas, and on timesteps
_ETAS = ("eta_ancestral", "eta_ddim")
#: texts that the two sides write differently, by parameter; a GPU of NVIDIA's draws what "nv" computes
_WORDS = {
    # a whole VAE for each preview would keep others waiting
    "show_progress_type": {
        "full": "Approx NN",
        "approx nn": "Approx NN",
        "approx cheap": "Approx cheap",
        "taesd": "TAESD",
    },
    "noise_source": {"cpu": "cpu", "nv": "nv", "gpu": "nv"},
    "output_format": {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"},
}
#: options of older versions, and of programs that follow A1111, at the value that asks for nothing
_ELSEWHERE: dict[str, Any] = {
    "enable_emphasis": True,
    "filter_nsfw": False,
    "forge_additional_modules": [],
    "use_scale_latent_for_hires_fix": False,
    "control_net_inpaint_blur_sigma": 7,
    "control_net_unit_count": 3,
    "controlnet_ignore_noninpaint_mask": False,
}
#: options that name what workers have, or have not: who reads a request looks whether it is there
_FILES = ("sd_model_checkpoint", "sd_hypernetwork", "sd_lora")
#: whether width and height are a hires fix' last ones, as before A1111 1.0: other parameters say it here
OLD_HIRES_SIZE = "use_old_hires_fix_width_height"
#: whether pictures that are sent carry their texts
SENDS_TEXTS = "enable_pnginfo"
#: values that come to the same as the default
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "sd_unet": ("None",),
    "add_user_name_to_info": (True,),  # an API's requests have none
    "lora_functional": (True,),  # another way to the same sums
}


@cache
def defaults() -> Mapping[str, Any]:
    """Every option and its default."""
    return {name: value for group in _table().values() for name, value in group.items()}


def changes_pictures(name: str) -> bool:
    """Whether an option affects pictures or their infotexts in A1111."""
    return name in _table()["picture"]


def _set_here() -> frozenset[str]:
    """Options that matter beyond A1111's page and machine: those of pictures, and what previews show."""
    return frozenset((*_table()["picture"], "show_progress_type"))


def parameter(name: str) -> str | None:
    """The parameter that an option sets, or None."""
    renamed = _RENAMED.get(name, name)
    return renamed if name in _set_here() and renamed in Params.model_fields else None


def parameters_of(options: Mapping[str, Any], sampler: str, *, txt2img: bool) -> dict[str, Any]:
    """The parameters that options set; of the two etas, the sampler's, and likewise for the ratios.

    An eta with A1111's default is left to the samplers: a hires fix may have one of either kind.
    """
    others = {name for name in _ETAS if options.get(name) == defaults()[name]}
    others.add("eta_ancestral" if SAMPLERS[sampler].timesteps else "eta_ddim")
    ratio = options.get("token_merging_ratio_img2img")
    others.add("token_merging_ratio_img2img" if txt2img or not ratio else "token_merging_ratio")
    found = {parameter(name): _value(name, value) for name, value in options.items() if name not in others}
    if found.get("output_format", "png") == "png":
        found.pop("quality", None)
    else:  # of a WebP, too; it has no default of its own there
        found.setdefault("quality", defaults()["jpeg_quality"])
    return {field: value for field, value in found.items() if field is not None}


def check_option(name: str, value: Any) -> None:
    """Check that an option may have that value.

    Raises:
        Refused: there is no such option, it is too long or not a number, or it would change pictures in a
            way that is not supported here.
    """
    if name in _ELSEWHERE and value == _ELSEWHERE[name]:
        return
    if name not in defaults():
        raise Refused(name, value, unknown_name("option", name, defaults()))
    _check_size(name, value)
    if name in GridOptions.model_fields:
        _check_grid(name, value)
    if name not in _set_here() or name in _FILES or (name == OLD_HIRES_SIZE and value is True):
        return
    field = parameter(name)
    if name == SENDS_TEXTS:
        _check_switch(name, value)
    elif field is not None:
        _check_range(name, field, value)
    elif value != defaults()[name] and value not in _NEUTRAL.get(name, ()):
        raise Refused(name, value, f"only {defaults()[name]!r} is supported here")


def _value(name: str, value: Any) -> Any:
    """An option's value as its parameter has it."""
    field = parameter(name) or ""
    if field == "s_tmax" and value == 0:
        return None  # no upper end
    if field == "upscaler_for_img2img" and value is None:
        return "None"
    if field == "clip_skip" and value == 0:
        return 1  # as A1111 takes it
    if field == "vae" and value == "auto":
        return "Automatic"  # an older A1111's word
    return _WORDS[field].get(str(value).lower(), value) if field in _WORDS else value


def _check_range(name: str, field: str, value: Any) -> None:
    if field in _WORDS and _value(name, value) not in _WORDS[field].values():
        raise Refused(name, value, f"give {' or '.join(_WORDS[field])}")
    try:
        # with what lets it have its effect
        with_it = {
            "output_format": "jpeg",
            "restore_faces": True,
            "enable_hr": field in HIRES_FIELDS,
            **taker(field),
        }
        read_params({**with_it, field: _value(name, value)})
    except Refused as refusal:
        raise Refused(name, value, refusal.reason) from None


def _check_switch(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise Refused(name, value, "give true or false")


def _check_grid(name: str, value: Any) -> None:
    try:
        GridOptions.model_validate({name: value})
    except ValidationError as error:
        raise refusal(error) from None


def _check_size(name: str, value: Any) -> None:
    try:
        length = len(json.dumps(value, allow_nan=False))
    except (ValueError, RecursionError):
        raise Refused(name, value, "give a finite number, a text, or a list of these") from None
    if length > LONGEST:
        raise Refused(name, Summary(f"{length:,} characters"), f"give at most {LONGEST:,} characters")


@cache
def _table() -> dict[str, dict[str, Any]]:
    text = files("img2img_gateway.sdapi").joinpath("a1111_options.json").read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = json.loads(text)
    return table
