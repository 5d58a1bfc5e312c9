"""Reads quantized weights, which are stored with a scale beside them."""

import json
from collections.abc import Mapping

import torch
from torch import Tensor

from img2img_shared.errors import Refused

_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
#: endings of a weight's scale: one number, or one for each row
_SCALES = (".scale_weight", ".weight_scale")
#: endings of an input's scale, for networks that multiply in 8 bits, which is not done here
_INPUT_SCALES = (".scale_input", ".input_scale")
#: a tensor whose own type is that of the scaled weights
_MARKER = "scaled_fp8"
#: the ending of a tensor with JSON as bytes, which names a weight's format
_FORMAT = ".comfy_quant"
_READ_FORMATS = ("float8_e4m3fn", "float8_e5m2")
#: endings by which weights of 4 bits are known
_PACKED = (
    ".absmax",
    ".quant_map",
    "quant_state.bitsandbytes__nf4",
    "quant_state.bitsandbytes__fp4",
    ".weight_scale_2",
)


def unscaled(weights: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """The weights with their scales applied: weights of 8 bits that have one become float16.

    Such files are written for ComfyUI and Forge, whose names these are. Weights of 8 bits without a scale
    stay as they are.

    Raises:
        Refused: a scale does not fit, or weights are in another format or integers.
    """
    packed = [key for key in weights if key.endswith(_PACKED)]
    if packed:
        raise Refused(
            "model", str(source), f"{packed[0]} has weights of 4 bits; use a file with 8 bits or more"
        )
    plain = {key: tensor for key, tensor in weights.items() if key.rpartition(".")[2] != _MARKER}
    for key in [key for key in plain if key.endswith(_FORMAT)]:
        _check_format(plain.pop(key), key, source)
    for key in [key for key in plain if key.endswith(_SCALES)]:
        layer = key.rpartition(".")[0]
        weight = plain.get(f"{layer}.weight")
        if weight is not None and weight.dtype in _FLOAT8:
            plain[f"{layer}.weight"] = _scaled(weight, plain.pop(key), key, source)
            for ending in _INPUT_SCALES:
                plain.pop(layer + ending, None)
    for key, tensor in plain.items():
        if key.endswith(".weight") and not tensor.dtype.is_floating_point:
            kind = str(tensor.dtype).removeprefix("torch.")
            reason = f"{key} holds whole numbers ({kind}), and nothing says what they stand for"
            raise Refused("model", str(source), f"{reason}; use a file of float8, or of more bits")
    return plain


def _scaled(weight: Tensor, scale: Tensor, key: str, source: object) -> Tensor:
    rows = scale.float().reshape(-1, *[1] * (weight.ndim - 1))
    if len(rows) not in (1, len(weight)) or not (rows.isfinite().all()):
        reason = f"{key} is no finite scale for a weight or for each of its rows; use another file"
        raise Refused("model", str(source), reason)
    return (weight.float() * rows).to(torch.float16)


def _check_format(tensor: Tensor, key: str, source: object) -> None:
    try:
        kind = json.loads(bytes(tensor.to(torch.uint8).flatten().tolist()))["format"]
    except (ValueError, KeyError, TypeError):
        kind = "not readable"
    if kind not in _READ_FORMATS:
        raise Refused("model", str(source), f"{key} is {kind}; use a file with {' or '.join(_READ_FORMATS)}")
