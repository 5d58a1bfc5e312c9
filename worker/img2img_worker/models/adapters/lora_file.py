"""Reads LoRAs' files layer by layer, whichever program wrote them."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_shared.file_hashes import rest_sha256
from img2img_worker.models.adapters.lora_keys import kohya_name
from img2img_worker.models.adapters.lora_kinds import IA3, KINDS, Kind
from img2img_worker.models.adapters.low_rank import Adapter
from img2img_worker.models.checkpoints.weights import read_weights
from img2img_worker.models.file_cache import read_once

#: tensors that a layer of any kind may have
_COMMON = frozenset({"alpha", "scale", "dora_scale", "bias"})
#: endings of kohya's and LyCORIS' names
_PARTS = sorted(_COMMON.union(*(kind.needs | kind.may for kind in KINDS)))
_KEY = re.compile(rf"(.+?)\.({'|'.join(map(re.escape, _PARTS))})")
#: endings of PEFT's names (with the adapter's name, if it was saved as it was trained), and two that
#: diffusers wrote before it used PEFT
_PEFT = re.compile(
    r"(.+?)(?:\.lora_|_lora\.|\.lora\.|\.lora_linear_layer\.)(down|up|A|B)(?:(?<=[AB])\.default(?:_\d+)?)?\.weight"
)
_XLABS = re.compile(r"(.+\.processor\.(?:qkv_lora[12]?|proj_lora[12]))\.(down|up)\.weight")
_PEFT_PARTS = {"A": "lora_down.weight", "B": "lora_up.weight"}
#: the tensor that PEFT's `lora_bias` adds to a layer's matrices
_PEFT_BIAS = re.compile(r".+\.lora_B(?:\.default(?:_\d+)?)?\.bias")
_MAGNITUDE = re.compile(r"(.+?)\.lora_magnitude_vector(?:\.weight)?")
#: where diffusers writes the settings of PEFT's adapters into a file
_METADATA = "lora_adapter_metadata"
#: prefix of the tensors of textual inversions, and of those in A1111's own layout among them
_BUNDLE, _PARAMETERS = "bundle_emb.", "string_to_param."
#: digits of a hash in an infotext
_SHORT = 12


def read_lora(path: Path) -> dict[str, Adapter]:
    """The adapters in a file, by kohya's names of layers: ``lora_unet_…``, ``lora_te1_…``, ``lora_te2_…``.

    Raises:
        Refused: it is no .safetensors file, or broken; or it holds tensors of no known kind.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        tensors = read_weights(path)
    except Refused as error:
        raise Refused("lora", path.stem, error.reason) from None
    for key, tensor in tensors.items():
        if key.startswith(_BUNDLE):
            continue
        layer, part = _read_key(path, key)
        if part == "lora_magnitude_vector":
            part, tensor = "dora_scale", tensor.reshape(-1, 1)
        if part in parts.setdefault(layer, {}):
            raise Refused("lora", path.stem, f"{key} is there twice, under two names; use another file")
        parts[layer][part] = tensor
    if not tensors:
        raise Refused("lora", path.stem, "the file is empty; use another")
    settings = _settings(path)
    adapters: dict[str, Adapter] = {}
    for layer, own in parts.items():
        name = kohya_name(layer)
        if name in adapters:
            raise Refused(
                "lora",
                path.stem,
                f"{adapters[name].layer} and {layer} are one layer, and it is there twice; use another file",
            )
        adapters[name] = _adapter(path, layer, own, settings)
    return adapters


def read_bundle(path: Path) -> dict[str, dict[str, Any]]:
    """The textual inversions in a LoRA's file by name, each as its own file would hold it.

    Raises:
        Refused: it cannot be read, or a tensor names no textual inversion.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, tensor in read_weights(path).items():
        if not key.startswith(_BUNDLE):
            continue
        name, dot, part = key.removeprefix(_BUNDLE).partition(".")
        if not name or not dot:
            raise Refused("lora", path.stem, f"{key} names no textual inversion; use another file")
        own = found.setdefault(name, {})
        if part.startswith(_PARAMETERS):
            own = own.setdefault(_PARAMETERS.removesuffix("."), {})
        own[part.removeprefix(_PARAMETERS)] = tensor
    return found


def short_hash(path: Path) -> str:
    """A1111's hash of a LoRA: 12 digits of its metadata's, or else of the SHA-256 of what follows its header.

    Raises:
        Refused: it cannot be read.
    """
    try:
        return (metadata(path).get("sshs_model_hash") or _data_hash(path))[:_SHORT]
    except OSError as error:
        raise Refused("lora", path.stem, f"the file cannot be read ({error.strerror})") from None


def metadata(path: Path) -> dict[str, str]:
    """What the trainer wrote about the file into its header; empty: nothing, or it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


@read_once
def _data_hash(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        file.seek(int.from_bytes(file.read(8), "little") + 8)
        return rest_sha256(file)


def _read_key(path: Path, key: str) -> tuple[str, str]:
    """The file's name of the layer that a tensor belongs to, and the name of the tensor in it."""
    if found := _MAGNITUDE.fullmatch(key):
        return found[1], "lora_magnitude_vector"
    if found := _XLABS.fullmatch(key) or _PEFT.fullmatch(key):
        return found[1], _PEFT_PARTS.get(found[2], f"lora_{found[2]}.weight")
    if _PEFT_BIAS.fullmatch(key):
        raise Refused(
            "lora",
            path.stem,
            f"{key} is a bias of PEFT's, which is not supported; use one that was trained without lora_bias",
        )
    if found := _KEY.fullmatch(key):
        return found[1], found[2]
    kinds = ", ".join(dict.fromkeys(kind.name for kind in KINDS))
    raise Refused("lora", path.stem, f"tensor {key} is unknown; use a file of one of these kinds: {kinds}")


def _adapter(
    path: Path, layer: str, tensors: dict[str, Tensor], settings: Mapping[str, Mapping[str, Any]]
) -> Adapter:
    kind = _kind(path, layer, tensors)
    for name in {"alpha", "scale", "on_input"} & tensors.keys():
        if tensors[name].numel() != 1:
            raise Refused(
                "lora",
                path.stem,
                f"{layer}.{name} has {tensors[name].numel()} numbers instead of one; use another file",
            )
    if not all(tensor.float().isfinite().all() for tensor in tensors.values()):
        raise Refused("lora", path.stem, f"{layer} has numbers that are not finite; use another file")
    if any(
        tensor.ndim == 0 for name, tensor in tensors.items() if name not in ("alpha", "scale", "on_input")
    ):
        raise Refused(
            "lora", path.stem, f"{layer} has single numbers where matrices belong; use another file"
        )
    return Adapter(
        layer=layer,
        kind=kind,
        tensors=_prepared(kind, tensors),
        scale=_scale(path, layer, kind, tensors, settings),
    )


def _kind(path: Path, layer: str, tensors: Mapping[str, Tensor]) -> Kind:
    for kind in KINDS:
        if kind.needs <= tensors.keys() <= kind.needs | kind.may | _COMMON:
            return kind
    near = [kind for kind in KINDS if ((kind.needs | kind.may) - _COMMON) & tensors.keys()]
    found = ", ".join(f"{layer}.{part}" for part in sorted(tensors))
    if not near:
        reason = f"of this layer the file has only {found}; use one that has its weights"
        raise Refused("lora", path.stem, reason)
    wanted = " or ".join(" and ".join(sorted(kind.needs)) for kind in near)
    raise Refused("lora", path.stem, f"the file has {found}, but each layer needs {wanted}")


def _prepared(kind: Kind, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that `kind` computes with; IA3's factors become a column or, `on_input`, a row."""
    left = {name: tensor for name, tensor in tensors.items() if name not in ("scale", "on_input")}
    if kind is IA3:
        left["weight"] = left["weight"].reshape((1, -1) if tensors["on_input"].item() else (-1, 1))
    if "oft_blocks" not in kind.needs:
        left.pop("alpha", None)
    return left


def _scale(
    path: Path,
    layer: str,
    kind: Kind,
    tensors: Mapping[str, Tensor],
    settings: Mapping[str, Mapping[str, Any]],
) -> float:
    if kind.rank is None:
        return float(tensors["scale"]) if "scale" in tensors else 1.0
    rank = tensors[kind.rank].shape[0]
    if rank == 0:
        raise Refused("lora", path.stem, f"{layer} has rank 0 in {kind.rank}; use another file")
    if "scale" in tensors:
        return float(tensors["scale"])
    if "alpha" in tensors:
        return float(tensors["alpha"]) / rank
    try:
        scale = _peft_scale(layer, rank, settings)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise Refused(
            "lora", path.stem, f"its {_METADATA} cannot be read as settings of PEFT; use another file"
        ) from None
    if not math.isfinite(scale):
        raise Refused("lora", path.stem, f"{_METADATA} has numbers that are not finite; use another file")
    return scale


def _settings(path: Path) -> dict[str, dict[str, Any]]:
    """PEFT's settings by network ("unet.", "text_encoder."); empty for files that have none."""
    try:
        read = json.loads(metadata(path).get(_METADATA, "{}"))
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise Refused("lora", path.stem, f"its {_METADATA} is no JSON object; use another file")
    settings: dict[str, dict[str, Any]] = {}
    for key, value in read.items():
        network, _, name = key.partition(".")
        settings.setdefault(f"{network}.", {})[name] = value
    return settings


def _peft_scale(layer: str, rank: int, settings: Mapping[str, Mapping[str, Any]]) -> float:
    """alpha / r by PEFT's settings, in which ``alpha_pattern`` names layers by the ends of their names.

    Raises:
        ValueError, TypeError, AttributeError, OverflowError: these are no such settings.
    """
    network, _, name = layer.partition(".")
    own = settings.get(f"{network}.", {})
    alpha = own.get("lora_alpha", rank)
    for ending, other in (own.get("alpha_pattern") or {}).items():
        if f".{name}".endswith(f".{ending}"):
            alpha = other
    return float(alpha) / (math.sqrt(rank) if own.get("use_rslora") else rank)
