"""A checkpoint as diffusers saves it: a folder with ``model_index.json`` and one folder for each part."""

from pathlib import Path

from img2img_shared.checkpoints import INDEX
from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.parts import FLUX, SD3, CheckpointParts, Component
from img2img_worker.models.checkpoints.weights import read_component, read_json
from img2img_worker.models.prompts.tokenizer import read_t5_tokenizer, read_tokenizer

#: pipelines of Flux.1; its others (Fill, Control, Kontext, ...) have transformers that see more
_FLUX = ("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline")


def read_folder(folder: Path, *, allow_pickles: bool = False) -> CheckpointParts:
    """The parts in a diffusers folder; nothing is asked of any hub.

    Raises:
        Refused: not such a folder, another kind of model, a part missing or broken.
    """
    index = read_json(folder / INDEX)
    kind = str(index.get("_class_name", ""))
    if not kind.startswith("StableDiffusion") and kind not in _FLUX:
        allowed = f"a Stable Diffusion checkpoint, not {kind or 'nothing'} (of Flux: {', '.join(_FLUX)})"
        raise Refused("model", str(folder), allowed)
    is_3 = kind.startswith("StableDiffusion3")
    t5 = "text_encoder_2" if kind in _FLUX else "text_encoder_3" if is_3 else None
    clips = [name for name in ("text_encoder", "text_encoder_2") if name != t5]
    encoders = [name for name in clips if _has(index, name)]
    if t5 is not None and not _has(index, t5):
        t5 = None
    if not encoders or encoders[0] != "text_encoder":
        raise Refused(
            "model", str(folder), "a checkpoint with its first text encoder (an SDXL refiner has none)"
        )
    if is_3 or kind in _FLUX:
        denoiser = _component(folder / "transformer", SD3 if is_3 else FLUX, allow_pickles)
    else:
        denoiser = _component(folder / "unet", "UNet2DConditionModel", allow_pickles)
    return CheckpointParts(
        source=str(folder),
        denoiser=denoiser,
        vae=_component(folder / "vae", "AutoencoderKL", allow_pickles),
        text_encoders=tuple(_component(folder / name, None, allow_pickles) for name in encoders),
        tokenizers=tuple(
            read_tokenizer(folder / name.replace("text_encoder", "tokenizer")) for name in encoders
        ),
        t5=_component(folder / t5, None, allow_pickles) if t5 else None,
        t5_tokenizer=read_t5_tokenizer(folder / t5.replace("text_encoder", "tokenizer")) if t5 else None,
        scheduler=read_json(folder / "scheduler" / "scheduler_config.json"),
    )


def _has(index: dict[str, object], name: str) -> bool:
    entry = index.get(name)
    return isinstance(entry, list) and entry[:1] != [None]


def _component(folder: Path, kind: str | None, allow_pickles: bool) -> Component:
    config = read_json(folder / "config.json")
    if kind is not None and config.get("_class_name", kind) != kind:
        raise Refused("model", str(folder), f"{kind}, not {config['_class_name']}")
    return Component(config=config, weights=read_component(folder, allow_pickles=allow_pickles))
