"""A LoRA on a disk: the two small matrices that it holds for each layer, whichever program wrote it."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_worker.models.weights import read_weights

#: how a tensor's name ends: kohya's, PEFT's, and two that diffusers wrote before it used PEFT
_FACTOR = re.compile(r"(.+?)(?:\.lora_|_lora\.|\.lora\.|\.lora_linear_layer\.)(down|up|A|B)\.weight")
_ALPHA = re.compile(r"(.+)\.alpha")
_PARTS = {"down": "down", "A": "down", "up": "up", "B": "up"}
#: how a layer's name begins, in every layout, and what kohya calls that network in its newer files
_NETWORKS = {
    "lora_unet_": "lora_unet_",
    "lora_te_": "lora_te1_",
    "lora_te1_": "lora_te1_",
    "lora_te2_": "lora_te2_",
    "unet.": "lora_unet_",
    "transformer.": "lora_unet_",
    "text_encoder.": "lora_te1_",
    "text_encoder_2.": "lora_te2_",
}
#: where diffusers writes the settings of PEFT's adapters into a file
_METADATA = "lora_adapter_metadata"


@dataclass(frozen=True, kw_only=True, eq=False)
class Factors:
    """What a LoRA adds to one layer's weight: ``scale · up @ down`` (Hu et al. 2021)."""

    #: [out, r], or [out, r, 1, 1]
    up: Tensor
    #: [r, in], or [r, in, kernel, kernel]
    down: Tensor
    #: alpha / r; 1 where a file has no alpha
    scale: float


def read_lora(path: Path) -> dict[str, Factors]:
    """The factors in a file by layer, named as kohya does: ``lora_unet_…``, ``lora_te1_…``, ``lora_te2_…``.

    Raises:
        Refused: not a .safetensors file or a broken one; what it holds is not, or not only, LoRA.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        tensors = read_weights(path)
    except Refused as error:
        raise Refused("lora", path.stem, error.allowed) from None
    for key, tensor in tensors.items():
        if found := _FACTOR.fullmatch(key):
            layer, part = found[1], _PARTS[found[2]]
        elif found := _ALPHA.fullmatch(key):
            layer, part = found[1], "alpha"
        else:
            raise Refused("lora", path.stem, f"up, down and alpha of LoRA, which {key} is not")
        parts.setdefault(layer, {})[part] = tensor
    if not parts:
        raise Refused("lora", path.stem, "a file that is not empty")
    settings = _settings(path)
    return {_kohya_name(layer): _factors(path, layer, own, settings) for layer, own in parts.items()}


def _factors(
    path: Path, layer: str, tensors: Mapping[str, Tensor], settings: Mapping[str, Mapping[str, Any]]
) -> Factors:
    up, down, alpha = (tensors.get(part) for part in ("up", "down", "alpha"))
    if up is None or down is None:
        raise Refused("lora", path.stem, f"up and down for every layer; {layer} has only one")
    rank = down.shape[0] if down.ndim else 0
    if rank == 0 or up.ndim < 2 or down.ndim < 2 or up[0].numel() != rank:
        shapes = f"{list(up.shape)} and {list(down.shape)}"
        raise Refused("lora", path.stem, f"up [out, r] and down [r, in] of one r; {layer} has {shapes}")
    if alpha is not None and alpha.numel() != 1:
        raise Refused("lora", path.stem, f"one number as alpha; that of {layer} has {alpha.numel()}")
    try:
        scale = _peft_scale(layer, rank, settings) if alpha is None else float(alpha) / rank
    except (ValueError, TypeError, AttributeError):
        raise Refused("lora", path.stem, f"PEFT's settings as {_METADATA}") from None
    if not (math.isfinite(scale) and up.float().isfinite().all() and down.float().isfinite().all()):
        raise Refused("lora", path.stem, f"finite numbers; {layer} has others")
    return Factors(up=up, down=down, scale=scale)


def _kohya_name(layer: str) -> str:
    layer = layer.replace(".processor.", ".")  # diffusers' oldest files name what ran the attention
    for prefix, network in _NETWORKS.items():
        if layer.startswith(prefix):
            # transformers took `text_model` off the names of CLIPTextModel's layers
            return network + layer.removeprefix(prefix).replace(".", "_").removeprefix("text_model_")
    return f"lora_unet_{layer.replace('.', '_')}"


def _settings(path: Path) -> dict[str, dict[str, Any]]:
    """PEFT's settings by network ("unet.", "text_encoder."); empty for files that have none."""
    with safe_open(path, framework="pt") as file:
        raw = (file.metadata() or {}).get(_METADATA, "{}")
    try:
        read = json.loads(raw)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise Refused("lora", path.stem, f"a JSON object as {_METADATA}")
    settings: dict[str, dict[str, Any]] = {}
    for key, value in read.items():
        network, _, name = key.partition(".")
        settings.setdefault(f"{network}.", {})[name] = value
    return settings


def _peft_scale(layer: str, rank: int, settings: Mapping[str, Mapping[str, Any]]) -> float:
    """alpha / r as PEFT's settings have it: ``alpha_pattern`` names layers by how their names end.

    Raises:
        ValueError, TypeError, AttributeError: these are no such settings.
    """
    network, _, name = layer.partition(".")
    own = settings.get(f"{network}.", {})
    alpha = own.get("lora_alpha", rank)
    for ending, other in (own.get("alpha_pattern") or {}).items():
        if f".{name}".endswith(f".{ending}"):
            alpha = other
    return float(alpha) / (math.sqrt(rank) if own.get("use_rslora") else rank)
