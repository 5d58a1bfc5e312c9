"""Maps the names of layers in LoRA files to the layers of a checkpoint."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from img2img_worker.models.adapters.low_rank import Rows
from img2img_worker.models.checkpoints.key_mapping import unet_name

#: what LoRAs can change
Layer = nn.Linear | nn.Conv2d | nn.GroupNorm | nn.LayerNorm

#: from the prefixes of layers' names, by the programs that write them, to kohya's prefix for the same network
_NETWORKS = {
    # sd-scripts and LyCORIS in it, whose OFT has a prefix of its own; also A1111's and most converters'
    "lora_unet_": "lora_unet_",
    "oft_unet_": "lora_unet_",
    "lora_te_": "lora_te1_",
    "lora_te1_": "lora_te1_",
    "lora_te2_": "lora_te2_",
    "lora_te3_": "lora_te3_",
    # LyCORIS alone, as in SimpleTuner
    "lycoris_": "lora_unet_",
    # OneTrainer, and the names of the Open Model Initiative that it writes too
    "lora_transformer_": "lora_unet_",
    "clip_l.": "lora_te1_",
    "clip_g.": "lora_te2_",
    "t5.": "lora_te3_",
    # diffusers, SimpleTuner, ai-toolkit
    "unet.": "lora_unet_",
    "transformer.": "lora_unet_",
    "text_encoder.": "lora_te1_",
    "text_encoder_2.": "lora_te2_",
    "text_encoder_3.": "lora_te3_",
    # ai-toolkit, ComfyUI
    "diffusion_model.": "lora_unet_",
    "model.diffusion_model.": "lora_unet_",
    "text_encoders.clip_l.transformer.": "lora_te1_",
    "text_encoders.clip_g.transformer.": "lora_te2_",
    "text_encoders.t5xxl.transformer.": "lora_te3_",
}
#: names of wrappers by PEFT, compilers and parallel training, before or after the network's own
_WRAPPERS = re.compile(r"(?<![^.])(base_model\.model|_orig_mod|module)\.")
#: T5's layers, whichever number it has: 3 by kohya, 2 in Flux by OneTrainer and diffusers
_T5 = re.compile(r"lora_te\d_((?:encoder_(?:block|final_layer_norm)|shared).*)")
_IMAGE = ("attn.to_q", "attn.to_k", "attn.to_v")
_TEXT = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")
#: for a transformer's blocks, named in the original layout and by diffusers, the layers inside: from original
#: names to diffusers'; the rows of several layers follow each other in one matrix
_BLOCKS: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    # SD 3
    ("joint_blocks", "transformer_blocks"): {
        "x_block.attn.qkv": _IMAGE,
        "x_block.attn.proj": ("attn.to_out.0",),
        "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
        "x_block.attn2.proj": ("attn2.to_out.0",),
        "x_block.mlp.fc1": ("ff.net.0.proj",),
        "x_block.mlp.fc2": ("ff.net.2",),
        "x_block.adaLN_modulation.1": ("norm1.linear",),
        "context_block.attn.qkv": _TEXT,
        "context_block.attn.proj": ("attn.to_add_out",),
        "context_block.mlp.fc1": ("ff_context.net.0.proj",),
        "context_block.mlp.fc2": ("ff_context.net.2",),
        "context_block.adaLN_modulation.1": ("norm1_context.linear",),
    },
    # Flux
    ("double_blocks", "transformer_blocks"): {
        "img_attn.qkv": _IMAGE,
        "img_attn.proj": ("attn.to_out.0",),
        "img_mlp.0": ("ff.net.0.proj",),
        "img_mlp.2": ("ff.net.2",),
        "img_mod.lin": ("norm1.linear",),
        # XLabs
        "qkv_lora1": _IMAGE,
        "proj_lora1": ("attn.to_out.0",),
        "qkv_lora2": _TEXT,
        "proj_lora2": ("attn.to_add_out",),
        "txt_attn.qkv": _TEXT,
        "txt_attn.proj": ("attn.to_add_out",),
        "txt_mlp.0": ("ff_context.net.0.proj",),
        "txt_mlp.2": ("ff_context.net.2",),
        "txt_mod.lin": ("norm1_context.linear",),
    },
    ("single_blocks", "single_transformer_blocks"): {
        "linear1": (*_IMAGE, "proj_mlp"),
        "linear2": ("proj_out",),
        "modulation.lin": ("norm.linear",),
        "qkv_lora": _IMAGE,
    },
}
#: the same for layers outside of blocks
_ENDS = {
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "img_in": "x_embedder",
    "img_in.proj": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
#: with two outputs for each input, these have scale before shift, and the original layout shift before scale
_SWAPPED = ("norm_out.linear", "norm1_context.linear")


@dataclass(frozen=True, kw_only=True)
class Place:
    """The layer that takes an adapter, or some of its rows."""

    #: kohya's name for it
    layer: str
    #: the rows of the adapter that are the layer's; None: all of them
    rows: Rows | None = None


def kohya_name(layer: str) -> str:
    """A layer's name in any file as kohya writes it: ``lora_unet_…``, ``lora_te1_…``; T5's ``lora_te3_…``."""
    layer = _WRAPPERS.sub("", layer.replace(".processor.", "."))  # in diffusers' oldest files
    prefix = next((prefix for prefix in _NETWORKS if layer.startswith(prefix)), "")
    # `ClipText` has no `text_model` in the names of its layers
    inside = layer.removeprefix(prefix).replace(".", "_").removeprefix("text_model_")
    name = _NETWORKS.get(prefix, "lora_unet_") + inside
    t5 = _T5.fullmatch(name)
    return f"lora_te3_{t5[1]}" if t5 else name


def denoiser_layers(denoiser: nn.Module) -> dict[str, Layer]:
    """Layers of a UNet or a transformer, by kohya's names for diffusers' names."""
    return {_unet(name): layer for name, layer in _layers(denoiser).items()}


def text_layers(texts: Sequence[nn.Module]) -> dict[str, Layer]:
    """Layers of the text models, by kohya's names; T5 is the third, also where there is no second."""
    return {
        kohya_name(f"lora_te{number}_{name.replace('.', '_')}"): layer
        for number, text in enumerate(texts, 1)
        for name, layer in _layers(text).items()
    }


def original_places(denoiser: Any) -> dict[str, tuple[Place, ...]]:
    """From kohya's names for the original layout of a UNet (as in SDXL's LoRAs) or transformer to layers."""
    layers = _layers(denoiser)
    resnets = getattr(getattr(denoiser, "config", None), "layers_per_block", None)
    if isinstance(resnets, int):
        keys = list(denoiser.state_dict())
        names = {name: unet_name(f"{name}.weight", keys, layers=resnets) for name in layers}
        return {
            _unet(theirs.removesuffix(".weight")): (Place(layer=_unet(ours)),)
            for ours, theirs in names.items()
        }
    return {
        _unet(theirs): tuple(_split(ours, layers))
        for theirs, ours in _transformer_names(layers)
        if all(name in layers for name in ours)
    }


def _transformer_names(layers: Mapping[str, Layer]) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from ((theirs, (ours,)) for theirs, ours in _ENDS.items())
    for (their_block, our_block), inside in _BLOCKS.items():
        numbers = {found[1] for name in layers if (found := re.match(rf"{our_block}\.(\d+)\.", name))}
        for number in numbers:
            for theirs, ours in inside.items():
                whole = tuple(f"{our_block}.{number}.{name}" for name in ours)
                yield f"{their_block}.{number}.{theirs}", whole
                if len(whole) > 1:  # the Open Model Initiative numbers the parts
                    for part, name in enumerate(whole):
                        yield f"{their_block}.{number}.{theirs}.{part}", (name,)


def _split(names: Sequence[str], layers: Mapping[str, Layer]) -> Iterator[Place]:
    """The layers of these names, each with its rows in the matrix of all."""
    sizes = [layers[name].weight.shape[0] for name in names]
    start = 0
    for name, size in zip(names, sizes, strict=True):
        stretches: tuple[tuple[int, int], ...] = ((start, start + size),)
        if name.endswith(_SWAPPED) and size == 2 * layers[name].weight.shape[1]:
            stretches = ((size // 2, size), (0, size // 2))
        whole = stretches == ((0, sum(sizes)),)
        yield Place(layer=_unet(name), rows=None if whole else Rows(total=sum(sizes), stretches=stretches))
        start += size


def _layers(network: nn.Module) -> dict[str, Layer]:
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, Layer) and layer.weight is not None
    }


def _unet(name: str) -> str:
    return f"lora_unet_{name.replace('.', '_')}"
