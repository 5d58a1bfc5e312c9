"""The text that says how a picture was made, in A1111's format, and the files that carry it."""

import io
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version

from PIL import ExifTags, Image, PngImagePlugin

from img2img_shared.control import ControlUnit
from img2img_shared.infotext_parser import quoted
from img2img_shared.param_fields import SOFT_FIELDS
from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS
from img2img_worker.sampling.account import seed_delta

_MASKED_CONTENT = {0: "fill", 2: "latent noise", 3: "latent nothing"}
#: of `SOFT_FIELDS`
_SOFT_NAMES = (
    "Soft inpainting schedule bias",
    "Soft inpainting preservation strength",
    "Soft inpainting transition contrast boost",
    "Soft inpainting mask influence",
    "Soft inpainting difference threshold",
    "Soft inpainting difference contrast",
)
_UNICODE = b"UNICODE\0"
_WITHOUT_MARKS = str.maketrans("", "", ":,")
#: bytes of UTF-16 text that fit into a JPEG's EXIF segment (64 KiB) beside its headers
_EXIF_TEXT = 65_000


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
    has_mask: bool = False,
    masked: bool = False,
    hires: Mapping[str, object] | None = None,
    lora_hashes: Mapping[str, str] | None = None,
    inversion_hashes: Iterable[tuple[str, str]] = (),
    account: Mapping[str, object] | None = None,
) -> str:
    """What A1111 writes for such a picture: prompt, negative prompt, and a line of ``Name: value`` pairs.

    A1111 and the tools around it read it back. (A1111: `create_infotext`.)

    Args:
        float8: the checkpoint's weights are kept in 8 bits.
        vae: file name and short hash of a VAE that is not the checkpoint's own.
        inpaints: the checkpoint sees masks.
        has_mask: a mask came with the picture; else mask parameters are left out.
        masked: it was in force (`Prepared.mask` is there), and not empty.
        hires: what is to be told of a second pass.
        lora_hashes: of each LoRA that the prompts name, by that name.
        inversion_hashes: names and hashes of textual inversions, as they are told.
        account: what else is to be told of how it was made, in A1111's order.
    """
    pairs: dict[str, object] = {
        "Steps": params.steps,
        "Sampler": params.sampler_name,
        "Schedule type": _schedule(params),
        "CFG scale": params.cfg_scale,
        "Distilled CFG Scale": params.distilled_cfg_scale,
        "Image CFG scale": params.image_cfg_scale,
        "Seed": seed,
        "Face restoration": params.face_restoration_model if params.restore_faces else None,
        "Size": f"{params.width}x{params.height}",
        "Model hash": model_hash if params.add_model_hash_to_info else None,
        "Model": model if params.add_model_name_to_info else None,
    }
    if float8:
        # the second is what comes nearest to LoRAs that no rounding touches
        pairs |= {"FP8 weight": "Enable", "Cache FP16 weight for LoRA": True}
    if vae is not None:
        name, vae_hash = vae
        pairs["VAE hash"] = vae_hash if params.add_vae_hash_to_info else None
        pairs["VAE"] = name if params.add_vae_name_to_info else None
    if params.subseed_strength:
        pairs |= {"Variation seed": subseed, "Variation seed strength": params.subseed_strength}
    if params.seed_resize_from_w:
        pairs["Seed resize from"] = f"{params.seed_resize_from_w}x{params.seed_resize_from_h}"
    is_full = params.txt2img and not params.enable_hr
    pairs["Denoising strength"] = None if is_full else params.denoising_strength
    pairs["Conditional mask weight"] = params.inpainting_mask_weight if inpaints else None
    pairs["Clip skip"] = params.clip_skip if params.clip_skip > 1 else None
    pairs["ENSD"] = seed_delta(params)
    pairs["Token merging ratio"] = params.token_merging_ratio or None
    if params.enable_hr:
        pairs["Token merging ratio hr"] = params.token_merging_ratio_hr or params.token_merging_ratio or None
    pairs["RNG"] = params.noise_source.upper()
    pairs["Tiling"] = params.tiling or None  # "True"
    if params.loopback:
        pairs["Final denoising strength"] = params.loopback_final_denoising_strength
        pairs["Denoising curve"] = params.loopback_denoising_curve
    if params.sd_upscale:
        pairs["SD upscale overlap"] = params.sd_upscale_overlap
        pairs["SD upscale upscaler"] = params.sd_upscale_upscaler
    pairs |= _soft_pairs(params) if has_mask else {}
    controls = {f"ControlNet {number}": _control_text(unit) for number, unit in enumerate(params.control)}
    waits = params.refiner_checkpoint is not None  # the extension, until prompts and masks are read
    pairs |= {} if waits else controls
    pairs |= hires or {}
    if has_mask:
        pairs |= _mask_pairs(params)
    if masked:
        pairs |= _inpaint_pairs(params)
    if not params.txt2img:
        pairs |= _start_pairs(params, masked=masked)
    pairs["Lora hashes"] = _hashes((lora_hashes or {}).items())
    pairs |= controls if waits else {}
    pairs["TI hashes"] = _hashes(inversion_hashes)
    pairs |= account or {}
    pairs["Version"] = f"img2img-farm {_version()}" if params.add_version_to_infotext else None
    line = ", ".join(f"{name}: {quoted(value)}" for name, value in pairs.items() if value is not None)
    negative = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{line}".strip()


def encode_picture(
    image: Image.Image,
    output_format: str,
    infotext: str = "",
    quality: int | None = None,
    *,
    texts: Mapping[str, str] | None = None,
) -> bytes:
    """`image` (RGB or RGBA) as a file that carries `infotext`, if there is any.

    PNG: in the `parameters` text chunk. JPEG (without transparency) and WebP: in EXIF's UserComment. A JPEG
    holds 64 KiB of it, so a longer text's prompts are cut, or else the line of pairs if not even that fits.

    Args:
        output_format: "png", "jpeg" or "webp".
        quality: 1 to 100, of a JPEG (None: 95) or a WebP (None: without loss).
        texts: others, by their keywords, which a PNG alone has.
    """
    file = io.BytesIO()
    image = image.copy()  # saving one object from two threads at once would mix their options
    if output_format == "png":
        chunks = PngImagePlugin.PngInfo()
        if infotext:
            chunks.add_text("parameters", infotext)
        for keyword, text in (texts or {}).items():
            chunks.add_text(keyword, text)
        # a third of the default's time at a few per cent more bytes
        image.save(file, "PNG", pnginfo=chunks, compress_level=1, compress_type=2)
    elif output_format == "jpeg":
        comment = _user_comment(_shorten(infotext))
        image.convert("RGB").save(file, "JPEG", quality=quality or 95, exif=comment)
    elif quality is None:
        image.save(file, "WEBP", lossless=True, method=0, exif=_user_comment(infotext))
    else:
        image.save(file, "WEBP", quality=quality, exif=_user_comment(infotext))
    return file.getvalue()


def _schedule(params: Params) -> str:
    """A1111 names the schedule that "Automatic" stood for, where the sampler prefers one."""
    return SAMPLERS[params.sampler_name].schedule(params.scheduler) or params.scheduler


def _soft_pairs(params: Params) -> dict[str, object]:
    if not params.soft_inpainting:
        return {}
    told = zip(_SOFT_NAMES, SOFT_FIELDS, strict=True)
    return {"Soft inpainting enabled": True} | {name: getattr(params, field) for name, field in told}


def _mask_pairs(params: Params) -> dict[str, object]:
    across, down = params.mask_blur_x, params.mask_blur_y
    return {
        "Mask mode": "Inpaint not masked" if params.inpainting_mask_invert else None,
        # whole numbers as A1111 has them; of two different blurs it writes none
        "Mask blur": f"{across:g}" if across == down and across > 0 else None,
    }


def _inpaint_pairs(params: Params) -> dict[str, object]:
    return {
        "Inpaint area": "Only masked" if params.inpaint_full_res else None,
        "Masked area padding": params.inpaint_full_res_padding if params.inpaint_full_res else None,
    }


def _start_pairs(params: Params, *, masked: bool) -> dict[str, object]:
    """What an init image's latent is made of: a fill of pixels comes before its encoding, others behind."""
    content = {"Masked content": _MASKED_CONTENT.get(params.inpainting_fill) if masked else None}
    method = params.sd_vae_encode_method
    encoder = {"VAE Encoder": None if method == "Full" else method}
    return {**content, **encoder} if params.inpainting_fill == 0 else {**encoder, **content}


def _control_text(unit: ControlUnit) -> str:
    """A unit as A1111's extension tells and reads it, which has no quotes for a name with a mark in it."""
    first, second = unit.thresholds
    told = {
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
    return ", ".join(f"{name}: {str(value).translate(_WITHOUT_MARKS)}" for name, value in told.items())


def _hashes(hashes: Iterable[tuple[str, str]]) -> str | None:
    """``name: hash, name: hash``; the marks that part them are taken out of the names."""
    return ", ".join(f"{name.translate(_WITHOUT_MARKS)}: {short}" for name, short in hashes) or None


def _user_comment(text: str) -> Image.Exif:
    exif = Image.Exif()
    if not text:
        return exif
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UNICODE + _utf16(text)
    return exif


def _shorten(text: str) -> str:
    """`text` cut to fit into a JPEG: its prompts, or the line of pairs if not even that fits."""
    if len(_utf16(text)) <= _EXIF_TEXT:
        return text
    prompts, _, line = text.rpartition("\n")
    end = f"…\n{line}"
    if len(_utf16(end)) > _EXIF_TEXT:
        prompts, end = line, "…"
    return _utf16(prompts)[: _EXIF_TEXT - len(_utf16(end))].decode("utf-16-be", "ignore") + end


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-be", "replace")


@cache
def _version() -> str:
    return version("img2img-farm")
