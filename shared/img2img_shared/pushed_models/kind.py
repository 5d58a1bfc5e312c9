"""Recognises the kind of a model's file by the names of its tensors."""

import json
from pathlib import Path
from typing import Any

from img2img_shared.errors import Refused
from img2img_shared.pushed_models.pushed_model import KINDS, ModelKind

#: bytes of the longest header that the format allows
_LONGEST = 100_000_000
#: what tensors' names begin with, by kind; what comes first wins
_BEGINNINGS: tuple[tuple[ModelKind, tuple[str, ...]], ...] = (
    ("lora", ("lora_unet_", "lora_te", "lycoris_", "lora_transformer_", "bundle_emb.")),
    ("control", ("control_model.", "controlnet_", "input_hint_block.", "lora_controlnet", "adapter.")),
    ("checkpoint", ("model.diffusion_model.", "double_blocks.", "joint_blocks.")),
    ("vae", ("first_stage_model.", "encoder.conv_in.", "vae.encoder.")),
    ("embedding", ("emb_params", "clip_g", "clip_l")),
    ("upscaler", ("conv_first.", "model.0.", "params_ema.", "body.0.", "m_head.", "upsampler.")),
)
#: what they hold in the middle, where trainers leave the beginnings to the network
_PARTS: tuple[tuple[ModelKind, tuple[str, ...]], ...] = (
    ("lora", (".lora_A.", ".lora_B.", ".lora_down.", ".lora_up.", ".lora.down.", ".hada_", ".lokr_")),
    ("control", (".controlnet_", "controlnet_cond_embedding", "zero_conv", "hint_block")),
    # T2I adapters, and IP-Adapters
    ("control", ("body.0.block1.", "body.0.resnets.", "image_proj.", "ip_adapter.")),
)


def kind_of(path: Path) -> ModelKind:
    """The kind of a .safetensors file; a pickle is not opened, and its kind has to be given.

    Raises:
        Refused: the kind cannot be recognised.
    """
    how = f"say what it is with --kind: {', '.join(KINDS)}"
    if path.suffix.lower() != ".safetensors":
        raise Refused("kind", None, f"what is in {path.name} is not looked into; {how}")
    names = [name for name in header(path) if name != "__metadata__"]
    for kind, parts in _PARTS:
        if any(part in name for name in names for part in parts):
            return kind
    for kind, beginnings in _BEGINNINGS:
        if any(name.startswith(beginnings) for name in names):
            return kind
    raise Refused("kind", None, f"the tensors of {path.name} do not tell; {how}")


def header(path: Path) -> dict[str, Any]:
    """A .safetensors file's header: its tensors' properties by their names.

    Raises:
        Refused: it is not such a file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            found = json.loads(file.read(length)) if length <= _LONGEST else None
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise Refused("file", str(path), "this is no .safetensors file; give one")
    return found
