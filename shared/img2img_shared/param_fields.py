"""All parameters of a render, as one set of fields; `params` adds the rules between them."""

from img2img_shared.param_groups.control_params import ControlParams
from img2img_shared.param_groups.denoising_params import DenoisingParams
from img2img_shared.param_groups.extras_params import ExtrasParams
from img2img_shared.param_groups.face_params import FaceParams
from img2img_shared.param_groups.group import ParamGroup
from img2img_shared.param_groups.guidance_params import GuidanceParams
from img2img_shared.param_groups.hires_params import HiresParams
from img2img_shared.param_groups.loopback_params import LoopbackParams
from img2img_shared.param_groups.mask_params import MaskParams
from img2img_shared.param_groups.model_params import ModelParams
from img2img_shared.param_groups.outpainting_params import OutpaintingParams
from img2img_shared.param_groups.output_params import OutputParams
from img2img_shared.param_groups.prompt_params import PromptParams
from img2img_shared.param_groups.refiner_params import RefinerParams
from img2img_shared.param_groups.sampling_params import SamplingParams
from img2img_shared.param_groups.schedule_params import ScheduleParams
from img2img_shared.param_groups.sd_upscale_params import SdUpscaleParams
from img2img_shared.param_groups.seed_params import SeedParams
from img2img_shared.param_groups.size_params import SizeParams
from img2img_shared.param_groups.soft_inpainting_params import SoftInpaintingParams
from img2img_shared.param_groups.upscaling_params import UpscalingParams
from img2img_shared.samplers import REFINER_OPTIONS

#: what `enable_hr` alone gives a meaning
HIRES_FIELDS = tuple(name for name in HiresParams.model_fields if name != "enable_hr")
#: what `soft_inpainting` alone gives a meaning, in the order of A1111's script
SOFT_FIELDS = tuple(name for name in SoftInpaintingParams.model_fields if name != "soft_inpainting")
#: what `extras` alone gives a meaning
EXTRAS_FIELDS = tuple(name for name in ExtrasParams.model_fields if name != "extras")
#: what `outpaint` alone gives a meaning
OUTPAINTING_FIELDS = tuple(name for name in OutpaintingParams.model_fields if name != "outpaint")
OUTPAINTING_NOISE_FIELDS = ("outpaint_noise_exponent", "outpaint_color_variation")
#: what `sd_upscale` alone gives a meaning
SD_UPSCALE_FIELDS = tuple(name for name in SdUpscaleParams.model_fields if name != "sd_upscale")
#: what `loopback` alone gives a meaning
LOOPBACK_FIELDS = tuple(name for name in LoopbackParams.model_fields if name != "loopback")
#: what makes a picture of several renders; what its control units looked at is not stored
COMPOSED = ("outpaint", "sd_upscale", "loopback")
#: what `restore_faces` alone gives a meaning
FACE_FIELDS = tuple(name for name in FaceParams.model_fields if name != "restore_faces")
#: what gives parameters their meaning, and which these are
SWITCHES: dict[str, tuple[str, ...]] = {
    "enable_hr": HIRES_FIELDS,
    "soft_inpainting": SOFT_FIELDS,
    "refiner_checkpoint": REFINER_OPTIONS,
    "restore_faces": FACE_FIELDS,
    "extras": EXTRAS_FIELDS,
    "outpaint": OUTPAINTING_FIELDS,
    "sd_upscale": SD_UPSCALE_FIELDS,
    "loopback": LOOPBACK_FIELDS,
}
#: what has a meaning with `extras`; seeds are drawn for every job
WITH_EXTRAS = frozenset(
    {
        *("extras", "output_format", "quality", "seed", "subseed"),
        *EXTRAS_FIELDS,
        *UpscalingParams.model_fields,
    }
)


class ParamFields(
    OutputParams,
    ModelParams,
    SeedParams,
    ExtrasParams,
    FaceParams,
    UpscalingParams,
    ControlParams,
    LoopbackParams,
    SdUpscaleParams,
    OutpaintingParams,
    RefinerParams,
    HiresParams,
    GuidanceParams,
    ScheduleParams,
    SamplingParams,
    SoftInpaintingParams,
    MaskParams,
    DenoisingParams,
    SizeParams,
    PromptParams,
):
    """The fields of all groups. `Params` checks the rules between fields."""


#: the groups in the order of help texts and tables, by their headings
GROUPS: dict[str, type[ParamGroup]] = {
    "Prompt": PromptParams,
    "Size": SizeParams,
    "Denoising": DenoisingParams,
    "Mask (white is repainted)": MaskParams,
    "Soft inpainting (with a mask)": SoftInpaintingParams,
    "Loopback": LoopbackParams,
    "Outpainting": OutpaintingParams,
    "Upscaling by rendering (SD upscale)": SdUpscaleParams,
    "Sampling": SamplingParams,
    "Noise schedule": ScheduleParams,
    "Guidance": GuidanceParams,
    "Hires fix (with txt2img)": HiresParams,
    "Refiner": RefinerParams,
    "Faces": FaceParams,
    "Extras (nothing is rendered)": ExtrasParams,
    "Tiles of upscalers": UpscalingParams,
    "Control (ControlNet)": ControlParams,
    "Seed and variation": SeedParams,
    "VAE": ModelParams,
    "Output": OutputParams,
}
