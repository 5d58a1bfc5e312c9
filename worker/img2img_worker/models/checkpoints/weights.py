"""Reads weights from files without running code in them, and builds networks with them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.mapped import MappedFiles
from img2img_worker.models.checkpoints.shapes_alone import shapes_alone
from img2img_worker.models.checkpoints.tensors import some
from img2img_worker.models.families.fused_layers import fuse_layers
from img2img_worker.models.float8 import keep_in_float8, quantized
from img2img_worker.models.pickles import load_pickle

Network = TypeVar("Network", bound=nn.Module)

#: keys under which a pickle has its tensors, if it holds more than these
_WHOLES = ("state_dict", "model")
#: the two parts of an IP-Adapter's pickle; in its .safetensors file these are prefixes of names
_PARTS = ("image_proj", "ip_adapter")

#: endings of tensors that older versions of networks saved and none needs today
_OBSOLETE = ("position_ids", "logit_scale")
#: diffusers' old names inside a VAE's attention, still found in the best-known checkpoints
_RENAMED = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def read_weights(
    path: Path, *, allow_pickles: bool = False, files: MappedFiles | None = None
) -> dict[str, Tensor]:
    """All tensors of one file, on the CPU; those of a .safetensors file are mapped, and read when used.

    Args:
        files: maps the file, and can then release the pages that were read (see `assemble`).

    Raises:
        Refused: it is a pickle without `allow_pickles`, neither that nor a .safetensors file, or broken.
    """
    ending = path.suffix.lower()
    if ending == ".safetensors":
        try:
            return (files or MappedFiles()).read(path)
        except (SafetensorError, OSError) as error:
            raise Refused(
                "model", str(path), f"it cannot be read as .safetensors ({error}); use another copy"
            ) from None
    if ending not in {".ckpt", ".pt", ".pth", ".bin"}:
        raise Refused("model", str(path), "give a .safetensors file, or a folder in the diffusers layout")
    if not allow_pickles:
        raise Refused(
            "model",
            str(path),
            "pickles can run code; give a .safetensors file, or set IMG2IMG_ALLOW_PICKLES=true",
        )
    try:
        read = load_pickle(path)
    except (OSError, ValueError) as error:
        raise Refused(
            "model", str(path), f"it cannot be read as tensors ({error}); give a .safetensors file"
        ) from None
    wholes = (read.get(name) for name in _WHOLES) if isinstance(read, dict) else ()
    tensors = next((whole for whole in wholes if isinstance(whole, dict)), read)
    tensors = tensors if isinstance(tensors, dict) else {}
    for part in _PARTS:
        own = tensors.get(part)
        if isinstance(own, dict):
            tensors = {**tensors, **{f"{part}.{key}": value for key, value in own.items()}}
    return {
        key: value for key, value in tensors.items() if isinstance(key, str) and isinstance(value, Tensor)
    }


def read_component(
    folder: Path, *, allow_pickles: bool = False, files: MappedFiles | None = None
) -> dict[str, Tensor]:
    """The weights in one folder of the diffusers layout: in one file or several with an index, maybe as fp16.

    Args:
        files: as in `read_weights`.

    Raises:
        Refused: the folder has no weights, or they cannot be read.
    """
    for stem in ("diffusion_pytorch_model", "model", "pytorch_model"):
        for variant in ("", ".fp16"):
            index = folder / f"{stem}.safetensors.index{variant}.json"
            if index.is_file():
                shards = [read_weights(folder / name, files=files) for name in _shards(index)]
                return {key: tensor for shard in shards for key, tensor in shard.items()}
            endings = (".safetensors", ".bin") if allow_pickles else (".safetensors",)
            for ending in endings:
                file = folder / f"{stem}{variant}{ending}"
                if file.is_file():
                    return read_weights(file, allow_pickles=allow_pickles, files=files)
    raise Refused("model", str(folder), "the folder has no .safetensors weights; use one that has")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        Refused: there is no such file, or it holds no JSON object.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused(
            "model", str(path.parent), f"{path.name} is missing in it; use a complete checkpoint"
        ) from None
    except (ValueError, OSError) as error:
        raise Refused(
            "model", str(path), f"it cannot be read as JSON ({_line(error)}); use a complete checkpoint"
        ) from None
    if not isinstance(read, dict):
        raise Refused("model", str(path), "it holds no JSON object; use a complete checkpoint")
    return read


def assemble(
    network: Callable[[], Network],
    weights: Mapping[str, Tensor],
    *,
    device: torch.device,
    dtype: torch.dtype,
    source: object,
    files: MappedFiles | None = None,
    fuses: bool = True,
    float8: bool = False,
) -> Network:
    """A network with `weights`, in evaluation mode; every weight is used, and none may be missing.

    It is built on torch's meta device, so that no time is spent on initial values.

    Args:
        network: builds it.
        source: the file or folder of the weights, for error messages.
        files: the files that the weights are mapped from.
        fuses: on a GPU, run its layers as the farm's own kernels (`fuse_layers`); not if it will be compiled.
        float8: keep the weights of linear and convolutional layers in 8 bits.

    Raises:
        Refused: `network` fails; weights are missing, superfluous or of another shape.
    """
    try:
        with shapes_alone():
            built = network()
    except Exception as error:  # a configuration may be wrong in as many ways as there are lines in a network
        why = f"{type(error).__name__}: {_line(error)}"
        raise Refused(
            "model", str(source), f"its configuration fits no network ({why}); use another"
        ) from None
    wanted = built.state_dict()
    found = {_renamed(key, wanted): value for key, value in weights.items() if not key.endswith(_OBSOLETE)}
    missing, superfluous = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    misfits = sorted(key for key in wanted.keys() & found.keys() if wanted[key].shape != found[key].shape)
    for what, keys in (("lacks", missing), ("does not know", superfluous), ("has another size of", misfits)):
        if keys:
            raise Refused(
                "model",
                str(source),
                f"it {what} {some(keys)}; use a complete checkpoint of a kind that is supported",
            )
    in_8_bits = keep_in_float8(built) if float8 else {}
    placed: dict[str, Tensor] = {}
    for key, value in (files or MappedFiles()).used(found):
        # copied: mapped weights are unaligned, which changes last bits, and change if their file does
        copied = value.to(device=device, dtype=dtype, copy=True)
        if key in in_8_bits:
            placed |= zip(in_8_bits[key], quantized(copied), strict=True)
        else:
            placed[key] = copied
    built.load_state_dict(placed, assign=True)
    _fill_positions(built, device)
    if device.type == "cuda":
        built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own stub
        if fuses:
            fuse_layers(built)
    return built.eval().requires_grad_(False)


def _shards(index: Path) -> list[str]:
    """The names of the files in an index, without any path: they can only be in its folder."""
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict):
        raise Refused("model", str(index), "it has no weight_map; use a complete checkpoint")
    return sorted({Path(str(name)).name for name in names.values()})


def _renamed(key: str, wanted: Mapping[str, Tensor]) -> str:
    if key in wanted:
        return key
    for old, new in _RENAMED.items():
        if key.replace(old, new) in wanted:
            return key.replace(old, new)
    # only some files have this prefix in the names of CLIP's layers
    bare = key.removeprefix("text_model.")
    return bare if bare in wanted else key


def _fill_positions(network: nn.Module, device: torch.device) -> None:
    """Give CLIP its position ids, which are only a count, and in no file."""
    for module in network.modules():
        ids = module._buffers.get("position_ids")
        if ids is not None:
            module._buffers["position_ids"] = torch.arange(ids.shape[-1], device=device)[None]


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
