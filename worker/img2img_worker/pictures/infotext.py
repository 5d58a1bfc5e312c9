"""The infotext, which says how a picture was made, in A1111's format."""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version

from img2img_shared.control import ControlUnit
from img2img_shared.infotext_parser import quoted
from img2img_shared.param_fields import SOFT_FIELDS
from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS
from img2img_worker.sampling.account import seed_delta

_MASKED_CONTENT = {0: "fill", 2: "latent noise", 3: "latent nothing"}
#: A1111's names for `SOFT_FIELDS`
_SOFT_NAMES = (
    "Soft inpainting schedule bias",
    "Soft inpainting preservation strength",
    "Soft inpainting transition contrast boost",
    "Soft inpainting mask influence",
    "Soft inpainting difference threshold",
    "Soft inpainting difference contrast",
)
#: A1111's entries for its options; with the second one, LoRAs are added to unrounded weights, as here
_FLOAT8: Mapping[str, object] = {"FP8 weight": "Enable", "Cache FP16 weight for LoRA": True}
_WITHOUT_MARKS = str.maketrans("", "", ":,")


def infotext(
    params: Params,
    *,
    prompt: str,
    negative_prompt: str,
    seed: int,
    subseed: int,
    model: str,
    model_hash: str | None = None,
    float8: bool = False,
    vae: tuple[str, str] | None = None,
    inpaints: bool = False,
    init_hash: str | None = None,
    has_mask: bool = False,
    masked: bool = False,
    hires: Mapping[str, object] | None = None,
    lora_hashes: Mapping[str, str] | None = None,
    inversion_hashes: Iterable[tuple[str, str]] = (),
    account: Mapping[str, object] | None = None,
) -> str:
    """A picture's infotext: prompt, negative prompt, and a line of ``Name: value`` pairs in A1111's order.

    A1111 and the tools around it read it back. (A1111: `create_infotext`.)

    Args:
        float8: the checkpoint's weights are kept in 8 bits.
        vae: file name and short hash of a VAE that is not the checkpoint's own.
        inpaints: the checkpoint sees masks.
        init_hash: see `hash_of_pixels`.
        has_mask: a mask came with the picture; else mask parameters are left out.
        masked: the mask had an effect (`Prepared.mask` is there), and was not empty.
        hires: the entries of a second pass.
        lora_hashes: the hash of each LoRA that the prompts name, by that name.
        inversion_hashes: names and hashes of textual inversions, in order.
        account: further entries, in A1111's order.
    """
    controls = {f"ControlNet {number}": _control_text(unit) for number, unit in enumerate(params.control)}
    # with a refiner, A1111's extension writes its entries later, once prompts and masks are read
    waits = params.refiner_checkpoint is not None
    pairs: dict[str, object] = {
        **_sampling_pairs(params, seed),
        **_model_pairs(params, model, model_hash),
        **(_FLOAT8 if float8 else {}),
        **_vae_pairs(params, vae),
        **_variation_pairs(params, subseed),
        **_option_pairs(params, init_hash, inpaints=inpaints),
        **_script_pairs(params),
        **(_soft_pairs(params) if has_mask else {}),
        **({} if waits else controls),
        **(hires or {}),
        **(_mask_pairs(params) if has_mask else {}),
        **(_inpaint_pairs(params) if masked else {}),
        **({} if params.txt2img else _start_pairs(params, masked=masked)),
        "Lora hashes": _hashes((lora_hashes or {}).items()),
        **(controls if waits else {}),
        "TI hashes": _hashes(inversion_hashes),
        **(account or {}),
        "Version": f"img2img-farm {_version()}" if params.add_version_to_infotext else None,
    }
    line = ", ".join(f"{name}: {quoted(value)}" for name, value in pairs.items() if value is not None)
    negative = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{line}".strip()


def _sampling_pairs(params: Params, seed: int) -> dict[str, object]:
    return {
        "Steps": params.steps,
        "Sampler": params.sampler_name,
        "Schedule type": _schedule(params),
        "CFG scale": params.cfg_scale,
        "Distilled CFG Scale": params.distilled_cfg_scale,
        "Image CFG scale": params.image_cfg_scale,
        "Seed": seed,
        "Face restoration": params.face_restoration_model if params.restore_faces else None,
        "Size": f"{params.width}x{params.height}",
    }


def _model_pairs(params: Params, model: str, model_hash: str | None) -> dict[str, object]:
    return {
        "Model hash": model_hash if params.add_model_hash_to_info else None,
        "Model": model if params.add_model_name_to_info else None,
    }


def _vae_pairs(params: Params, vae: tuple[str, str] | None) -> dict[str, object]:
    name, short_hash = vae or (None, None)
    return {
        "VAE hash": short_hash if params.add_vae_hash_to_info else None,
        "VAE": name if params.add_vae_name_to_info else None,
    }


def _variation_pairs(params: Params, subseed: int) -> dict[str, object]:
    is_varied, is_resized = bool(params.subseed_strength), bool(params.seed_resize_from_w)
    return {
        "Variation seed": subseed if is_varied else None,
        "Variation seed strength": params.subseed_strength if is_varied else None,
        "Seed resize from": f"{params.seed_resize_from_w}x{params.seed_resize_from_h}"
        if is_resized
        else None,
    }


def _option_pairs(params: Params, init_hash: str | None, *, inpaints: bool) -> dict[str, object]:
    is_full = params.txt2img and not params.enable_hr
    ratio, hires_ratio = params.token_merging_ratio, params.token_merging_ratio_hr
    return {
        "Denoising strength": None if is_full else params.denoising_strength,
        "Conditional mask weight": params.inpainting_mask_weight if inpaints else None,
        "Clip skip": params.clip_skip if params.clip_skip > 1 else None,
        "ENSD": seed_delta(params),
        "Token merging ratio": ratio or None,
        "Token merging ratio hr": (hires_ratio or ratio or None) if params.enable_hr else None,
        "Init image hash": init_hash,
        "RNG": params.noise_source.upper(),
        "Tiling": params.tiling or None,  # "True"
    }


def _script_pairs(params: Params) -> dict[str, object]:
    loops, tiles = params.loopback, params.sd_upscale
    return {
        "Final denoising strength": params.loopback_final_denoising_strength if loops else None,
        "Denoising curve": params.loopback_denoising_curve if loops else None,
        "SD upscale overlap": params.sd_upscale_overlap if tiles else None,
        "SD upscale upscaler": params.sd_upscale_upscaler if tiles else None,
    }


def _schedule(params: Params) -> str:
    """The schedule; for "Automatic", as in A1111, the sampler's preferred one, if it has one."""
    return SAMPLERS[params.sampler_name].schedule(params.scheduler) or params.scheduler


def _soft_pairs(params: Params) -> dict[str, object]:
    if not params.soft_inpainting:
        return {}
    fields = zip(_SOFT_NAMES, SOFT_FIELDS, strict=True)
    return {"Soft inpainting enabled": True} | {name: getattr(params, field) for name, field in fields}


def _mask_pairs(params: Params) -> dict[str, object]:
    across, down = params.mask_blur_x, params.mask_blur_y
    return {
        "Mask mode": "Inpaint not masked" if params.inpainting_mask_invert else None,
        # whole numbers without a decimal point, as in A1111, which writes no blur if the two differ
        "Mask blur": f"{across:g}" if across == down and across > 0 else None,
    }


def _inpaint_pairs(params: Params) -> dict[str, object]:
    return {
        "Inpaint area": "Only masked" if params.inpaint_full_res else None,
        "Masked area padding": params.inpaint_full_res_padding if params.inpaint_full_res else None,
    }


def _start_pairs(params: Params, *, masked: bool) -> dict[str, object]:
    """How an init image's latent is made; a fill of pixels comes before the encoder, other fills after it."""
    content = {"Masked content": _MASKED_CONTENT.get(params.inpainting_fill) if masked else None}
    method = params.sd_vae_encode_method
    encoder = {"VAE Encoder": None if method == "Full" else method}
    return {**content, **encoder} if params.inpainting_fill == 0 else {**encoder, **content}


def _control_text(unit: ControlUnit) -> str:
    """A unit as A1111's extension writes and reads it, which cannot quote names with commas or colons."""
    first, second = unit.thresholds
    entries = {
        "Module": unit.module,
        "Model": unit.model,
        "Weight": unit.weight,
        "Resize Mode": unit.resize_mode,
        "Processor Res": unit.resolution,
        "Threshold A": first,
        "Threshold B": second,
        "Guidance Start": unit.guidance_start,
        "Guidance End": unit.guidance_end,
        "Pixel Perfect": unit.pixel_perfect,
        "Control Mode": unit.control_mode,
    }
    return ", ".join(f"{name}: {str(value).translate(_WITHOUT_MARKS)}" for name, value in entries.items())


def _hashes(hashes: Iterable[tuple[str, str]]) -> str | None:
    """``name: hash, name: hash``; commas and colons are removed from the names."""
    return ", ".join(f"{name.translate(_WITHOUT_MARKS)}: {short}" for name, short in hashes) or None


@cache
def _version() -> str:
    return version("img2img-farm")
