"""Reads files of IP-Adapters, in their authors' layout or under diffusers' names for them in a UNet."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import (
    ImageProjection,
    IPAdapterFullImageProjection,
    IPAdapterPlusImageProjection,
)
from torch import Tensor, nn

from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.infer_config import count
from img2img_worker.models.checkpoints.tensors import some
from img2img_worker.models.checkpoints.weights import assemble
from img2img_worker.models.control.image_prompt import ImagePromptAdapter

Weights = Mapping[str, Tensor]

_PROJECTION, _LAYERS = "image_proj.", "ip_adapter."
#: diffusers' names for the two parts: the projection, and a layer's attention processor
_OF_DIFFUSERS = re.compile(r"encoder_hid_proj\.(image_projection_layers\.0\.)?")
_PROCESSOR = re.compile(r"(.+)\.processor\.(to_[kv]_ip)\.0\.weight")
_HEAD = 64
#: from the authors' names to diffusers', for each kind of projection
_FULL = {r"proj\.0\.": "ff.net.0.proj.", r"proj\.2\.": "ff.net.2.", r"proj\.3\.": "norm."}
_PLUS = {
    r"(layers\.\d+)\.0\.norm1\.": r"\1.ln0.",
    r"(layers\.\d+)\.0\.norm2\.": r"\1.ln1.",
    r"(layers\.\d+)\.0\.to_out\.": r"\1.attn.to_out.0.",
    r"(layers\.\d+)\.0\.to_": r"\1.attn.to_",
    r"(layers\.\d+)\.1\.0\.": r"\1.ff.0.",
    r"(layers\.\d+)\.1\.1\.": r"\1.ff.1.net.0.proj.",
    r"(layers\.\d+)\.1\.3\.": r"\1.ff.1.net.2.",
}
#: parts that only FaceID adapters have, which need a network for face recognition
_OF_FACE_ID = ("image_proj.perceiver_resampler.", "image_proj.mapping_", "image_proj.id_embedding_mapping.")


def is_image_prompt(weights: Iterable[str]) -> bool:
    """Whether a file with these tensors is an IP-Adapter."""
    return any(name.startswith((_PROJECTION, _LAYERS, "encoder_hid_proj.")) for name in weights)


def read_image_prompt(
    path: Path, weights: Weights, unet: Any, *, key: str, device: torch.device, dtype: torch.dtype
) -> ImagePromptAdapter:
    """The IP-Adapter whose tensors these are, for checkpoints with this UNet; every one is used, or refused.

    Raises:
        Refused: it is of an unknown kind, broken, or for another kind of checkpoint.
    """
    names = [name for name, each in unet.named_modules() if name.endswith(".attn2")]
    order = [name.removesuffix(".processor") for name in unet.attn_processors]
    layers = sorted(names, key=order.index)
    weights = _authors_names(weights, layers)
    if _is_face_id(weights):
        reason = "it is a FaceID adapter, which needs insightface; use one that works with CLIP"
        raise Refused("control.model", path.stem, f"{reason}, such as ip-adapter-plus-face")
    projection, sees_patches = _projection(
        path,
        {
            name.removeprefix(_PROJECTION): each
            for name, each in weights.items()
            if name.startswith(_PROJECTION)
        },
        device=device,
        dtype=dtype,
    )
    rest = {name: each for name, each in weights.items() if not name.startswith(_PROJECTION)}
    own = {name.removeprefix(_LAYERS): each for name, each in rest.items()}
    keys, values = (_of_layers(path, own, part, unet, layers) for part in ("k", "v"))
    left = sorted(name for name in own if name not in _weight_names(layers))
    if left:
        raise Refused("control.model", path.stem, f"nothing here uses {some(left)} in it; use another file")
    transformers = [name.partition(".transformer_blocks.")[0] for name in layers]
    along = sorted(dict.fromkeys(transformers), key=_flow_order)
    return ImagePromptAdapter(
        key=key,
        name=path.stem,
        projection=projection,
        sees_patches=sees_patches,
        seen_size=_seen_size(projection),
        keys=[each.to(device=device, dtype=dtype, copy=True) for each in keys],
        values=[each.to(device=device, dtype=dtype, copy=True) for each in values],
        blocks=[along.index(name) for name in transformers],
    )


def _authors_names(weights: Weights, layers: list[str]) -> dict[str, Tensor]:
    found = {}
    for name, each in weights.items():
        if processor := _PROCESSOR.fullmatch(name):
            layer, part = processor.groups()
            number = 2 * layers.index(layer) + 1 if layer in layers else layer
            found[f"{_LAYERS}{number}.{part}.weight"] = each
        else:
            found[_OF_DIFFUSERS.sub(_PROJECTION, name, count=1)] = each
    return found


def _is_face_id(weights: Weights) -> bool:
    # the plain FaceID kind has the two layers of the full one, but a norm of another name
    is_plain = "image_proj.proj.0.weight" in weights and "image_proj.norm.weight" in weights
    return is_plain or any(name.startswith(_OF_FACE_ID) for name in weights)


def _projection(
    path: Path, weights: Weights, *, device: torch.device, dtype: torch.dtype
) -> tuple[nn.Module, bool]:
    """The module that makes tokens, and whether it takes CLIP's patches."""
    build: Callable[[], nn.Module]
    try:
        if "proj.weight" in weights or "image_embeds.weight" in weights:
            named = {name.replace("proj.", "image_embeds."): each for name, each in weights.items()}
            build, sees_patches = partial(_plain, named), False
        elif "proj.3.weight" in weights or "ff.net.2.weight" in weights:
            named = _rename(weights, _FULL)
            build, sees_patches = partial(_full, named), True
        elif "latents" in weights:
            named = _split_keys_values(_rename(weights, _PLUS))
            build, sees_patches = partial(_plus, named), True
        else:
            reason = f"it has {some(sorted(weights))}, which is unknown; use a plain, plus or full IP-Adapter"
            raise Refused("control.model", path.stem, reason)
        return assemble(build, named, device=device, dtype=dtype, source=path.stem), sees_patches
    except Refused as error:
        raise Refused("control.model", path.stem, error.reason) from None
    except (ValueError, RuntimeError) as error:  # such as keys and values that are not two halves
        raise Refused("control.model", path.stem, f"its shapes fit no network ({error})") from None


def _plain(weights: Weights) -> nn.Module:
    size, width = weights["image_embeds.weight"].shape, len(weights["norm.weight"])
    module: nn.Module = ImageProjection(size[1], width, size[0] // width)
    return module


def _full(weights: Weights) -> nn.Module:
    size, width = weights["ff.net.0.proj.weight"].shape[1], len(weights["norm.weight"])
    module: nn.Module = IPAdapterFullImageProjection(size, width)
    return module


def _plus(weights: Weights) -> nn.Module:
    _, n_tokens, width = weights["latents"].shape
    module: nn.Module = IPAdapterPlusImageProjection(
        embed_dims=weights["proj_in.weight"].shape[1],
        output_dims=len(weights["proj_out.weight"]),
        hidden_dims=width,
        depth=count(weights, "layers.{}."),
        dim_head=_HEAD,
        heads=len(weights["layers.0.attn.to_q.weight"]) // _HEAD,
        num_queries=n_tokens,
        ffn_ratio=len(weights["layers.0.ff.1.net.0.proj.weight"]) / width,
    )
    return module


def _seen_size(projection: nn.Module) -> int:
    """Dimensions of its input."""
    return next(layer.in_features for layer in projection.modules() if isinstance(layer, nn.Linear))


def _of_layers(path: Path, weights: Weights, part: str, unet: Any, layers: list[str]) -> list[Tensor]:
    """The weights for keys (or values) of each layer."""
    found = []
    for number, name in enumerate(layers):
        weight = weights.get(f"{2 * number + 1}.to_{part}_ip.weight")
        wanted = unet.get_submodule(name).get_submodule(f"to_{part}").weight.shape
        if weight is None or weight.shape != wanted:
            given = "nothing" if weight is None else " × ".join(map(str, weight.shape))
            reason = f"it has {given} for {name}, which takes {' × '.join(map(str, wanted))}"
            raise Refused("control.model", path.stem, f"{reason}; use one for this kind of checkpoint")
        found.append(weight)
    return found


def _weight_names(layers: list[str]) -> set[str]:
    """Names of all layers' weights; the authors give self-attention the even numbers."""
    return {f"{2 * number + 1}.to_{part}_ip.weight" for number in range(len(layers)) for part in "kv"}


def _rename(weights: Weights, names: Mapping[str, str]) -> dict[str, Tensor]:
    found = {}
    for name, each in weights.items():
        for pattern, new in names.items():
            if re.match(pattern, name):
                name = re.sub(pattern, new, name)
                break
        found[name] = each
    return found


def _split_keys_values(weights: Weights) -> dict[str, Tensor]:
    """The weights with keys and values apart, which the authors keep in one tensor."""
    found: dict[str, Tensor] = {}
    for name, each in weights.items():
        if ".to_kv." in name:
            key, value = each.chunk(2)
            found |= {name.replace(".to_kv.", ".to_k."): key, name.replace(".to_kv.", ".to_v."): value}
        else:
            found[name] = each
    return found


def _flow_order(transformer: str) -> tuple[int, str]:
    """Sorts the names of a UNet's transformers by the order of the data flow."""
    return (("down", "mid", "up").index(transformer.partition("_")[0]), transformer)
