"""A checkpoint as diffusers saves it: a folder with ``model_index.json`` and one folder for each part."""

from collections.abc import Mapping
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKL,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)

from img2img_shared.checkpoints import INDEX
from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.mapped import MappedFiles
from img2img_worker.models.checkpoints.parts import FLUX, SD3, UNET2D, CheckpointParts, Component
from img2img_worker.models.checkpoints.quantized import unscaled
from img2img_worker.models.checkpoints.tensors import some
from img2img_worker.models.checkpoints.weights import read_component, read_json
from img2img_worker.models.prompts.tokenizer import read_t5_tokenizer, read_tokenizer

#: pipelines of Flux.1; the transformers of the others (Fill, Control, Kontext, ...) take further inputs
_FLUX = ("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline")

#: the networks whose configurations are checked for unknown keys
_NETWORKS = {
    network.__name__: network
    for network in (AutoencoderKL, FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel)
}
_QUANTIZATION = frozenset(("quantization_config",))
#: keys of UNets about inputs beside latent, timestep and prompt, and the values that a worker supports
_INPUTS: dict[str, tuple[str | None, ...]] = {
    "time_cond_proj_dim": (None,),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "addition_embed_type": (None, "text_time"),
    "encoder_hid_dim_type": (None,),
}
_PARTS = frozenset(("unet", "transformer", "vae", "scheduler")) | {
    f"{part}{number}" for part in ("text_encoder", "tokenizer") for number in ("", "_2", "_3")
}
#: parts that no picture depends on here: a filter of pictures, and encoders of image prompts, which pipelines
#: run without, too
_WITHOUT_EFFECT = frozenset(("safety_checker", "feature_extractor", "image_encoder"))


def read_folder(folder: Path, *, allow_pickles: bool = False) -> CheckpointParts:
    """The parts in a diffusers folder; nothing is downloaded.

    Raises:
        Refused: it is no such folder, it is of another kind of model, or a part is missing or broken.
    """
    index = read_json(folder / INDEX)
    kind = str(index.get("_class_name", ""))
    others = [name for name in index if _has(index, name) and name not in _PARTS | _WITHOUT_EFFECT]
    if others:
        raise Refused(
            "model",
            str(folder),
            f"nothing here uses {some(others)} in it; remove that, or use another checkpoint",
        )
    if not kind.startswith("StableDiffusion") and kind not in _FLUX:
        reason = (
            f"it is {kind or 'nothing'}; use a Stable Diffusion checkpoint, or of Flux {', '.join(_FLUX)}"
        )
        raise Refused("model", str(folder), reason)
    is_3 = kind.startswith("StableDiffusion3")
    t5 = "text_encoder_2" if kind in _FLUX else "text_encoder_3" if is_3 else None
    clips = [name for name in ("text_encoder", "text_encoder_2") if name != t5]
    encoders = [name for name in clips if _has(index, name)]
    if t5 is not None and not _has(index, t5):
        t5 = None
    is_xl_refiner = kind.startswith("StableDiffusionXL") and encoders == ["text_encoder_2"]
    if not encoders or (encoders[0] != "text_encoder" and not is_xl_refiner):
        raise Refused("model", str(folder), "it lacks the first text encoder; use a complete checkpoint")
    files = MappedFiles()
    component = partial(_component, files=files, allow_pickles=allow_pickles)
    if is_3 or kind in _FLUX:
        denoiser = component(folder / "transformer", SD3 if is_3 else FLUX)
    else:
        denoiser = component(folder / "unet", UNET2D)
        _refuse_inputs(denoiser.config, folder / "unet")
    return CheckpointParts(
        source=str(folder),
        denoiser=denoiser,
        vae=component(folder / "vae", "AutoencoderKL"),
        text_encoders=tuple(component(folder / name, None) for name in encoders),
        tokenizers=tuple(
            read_tokenizer(folder / name.replace("text_encoder", "tokenizer")) for name in encoders
        ),
        t5=component(folder / t5, None) if t5 else None,
        t5_tokenizer=read_t5_tokenizer(folder / t5.replace("text_encoder", "tokenizer")) if t5 else None,
        scheduler=read_json(folder / "scheduler" / "scheduler_config.json"),
        files=files,
    )


def _has(index: dict[str, object], name: str) -> bool:
    entry = index.get(name)
    return isinstance(entry, list) and entry[:1] != [None]


def _component(folder: Path, kind: str | None, files: MappedFiles, *, allow_pickles: bool) -> Component:
    config = read_json(folder / "config.json")
    if kind is not None and config.get("_class_name", kind) != kind:
        raise Refused("model", str(folder), f"its class is {config['_class_name']}, where {kind} is expected")
    _refuse_unknown(config, folder)
    weights = unscaled(read_component(folder, allow_pickles=allow_pickles, files=files), folder)
    return Component(config=config if kind is None else config | {"_class_name": kind}, weights=weights)


def _refuse_unknown(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse keys that the network does not know, as diffusers and transformers ignore them."""
    network = _NETWORKS.get(config.get("_class_name", ""))
    unknown = set() if network is None else config.keys() - signature(network.__init__).parameters.keys()
    for key in sorted({*unknown, *(_QUANTIZATION & config.keys())}):
        if not key.startswith("_") and config[key] not in (None, False):
            raise Refused(
                f"model.{folder.name}.{key}",
                config[key],
                "this setting is unknown here; remove it, or use another checkpoint",
            )


def _refuse_inputs(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a UNet that needs inputs beside a prompt, SDXL's sizes and channels beside the latent."""
    for key, allowed in _INPUTS.items():
        if config.get(key) not in allowed:
            known = " or ".join("nothing" if value is None else str(value) for value in allowed)
            raise Refused(
                f"model.{folder.name}.{key}",
                config[key],
                f"only {known} is supported; use another checkpoint",
            )
