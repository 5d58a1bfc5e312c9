"""Upscalers by A1111's names."""

from typing import Annotated

from pydantic import AfterValidator, Field

#: those that need no file. "None" is Lanczos without the detour that A1111's "Lanczos" takes, by sides that
#: are multiples of 8
BUILT_IN = ("None", "Lanczos", "Nearest")
#: what A1111 calls the networks of some files, by these files' names without their endings
A1111_NAMES = {
    "realesr-general-x4v3": "R-ESRGAN General 4xV3",
    "realesr-general-wdn-x4v3": "R-ESRGAN General WDN 4xV3",
    "realesr-animevideov3": "R-ESRGAN AnimeVideo",
    "RealESRGAN_x4plus": "R-ESRGAN 4x+",
    "RealESRGAN_x4plus_anime_6B": "R-ESRGAN 4x+ Anime6B",
    "RealESRGAN_x2plus": "R-ESRGAN 2x+",
    **{f"DAT_x{n}": f"DAT x{n}" for n in (2, 3, 4)},
    "SwinIR_4x": "SwinIR 4x",
    "ScuNET": "ScuNET GAN",
    "scunet_color_real_gan": "ScuNET GAN",
    "scunet_color_real_psnr": "ScuNET PSNR",
}
_BY_LOWER = {name.lower(): name for name in BUILT_IN}


def is_network(name: str | None) -> bool:
    """Whether an upscaler is a file, and not one of those built into every worker."""
    return name is not None and name not in BUILT_IN


def _spell(name: str) -> str:
    return _BY_LOWER.get(name.lower(), name)


#: a built-in one's name, in any case, or a file's
UpscalerName = Annotated[
    str,
    Field(min_length=1, max_length=255, json_schema_extra={"x-files": "upscaler"}),
    AfterValidator(_spell),
]
