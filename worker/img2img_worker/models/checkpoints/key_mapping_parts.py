"""What readers of single-file checkpoints share: a VAE under ldm's names, and CLIP's tokenizer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL
from torch import Tensor, nn

from img2img_worker.models.checkpoints import infer_config, key_mapping
from img2img_worker.models.checkpoints.infer_config import Weights
from img2img_worker.models.checkpoints.parts import Component
from img2img_worker.models.checkpoints.shapes_alone import shapes_alone
from img2img_worker.models.checkpoints.tensors import Tensors
from img2img_worker.models.prompts.tokenizer import (
    END,
    VOCABULARY,
    ClipTokenizer,
    clip_tokenizer,
    read_tokenizer,
)


def vae_component(weights: Tensors, prefix: str, **scales: Any) -> Component:
    """diffusers' AutoencoderKL from the weights that a file has under `prefix`.

    Args:
        scales: ``scaling_factor`` and other settings of AutoencoderKL for scaling its latents.

    Raises:
        KeyError: a weight is missing.
    """
    network = below(weights, prefix)
    config = infer_config.vae_config(network) | scales
    keys = network_keys(lambda: AutoencoderKL.from_config(config))
    names = {key: key_mapping.vae_name(key, levels=len(config["block_out_channels"])) for key in keys}
    found = {key: weight(network, prefix, names[key]) for key in keys}
    # the original's attention projections are 1 × 1 convolutions, diffusers' are matrices
    flat = {
        key: value[:, :, 0, 0] for key, value in found.items() if ".attentions." in key and value.ndim == 4
    }
    return Component(config=config, weights=found | flat)


def tokenizer_of(encoder: Component, path: Path) -> ClipTokenizer:
    """CLIP's own tokenizer or, if a text encoder's vocabulary is another, the one in ``tokenizer`` beside it.

    Raises:
        Refused: there is none.
    """
    pad = encoder.config.get("pad", END)
    if encoder.config["vocab_size"] == VOCABULARY:
        return clip_tokenizer(pad=pad)
    return read_tokenizer(path.parent / "tokenizer", pad=pad)


def below(weights: Tensors, prefix: str) -> Tensors:
    """The weights whose names begin with `prefix`, without it.

    Raises:
        KeyError: there are none.
    """
    found = weights.below(prefix)
    if not found:
        raise KeyError(f"{prefix}*")
    return found


def weight(weights: Weights, prefix: str, name: str) -> Tensor:
    """A weight by its name.

    Raises:
        KeyError: there is none; the error has the whole name.
    """
    if name not in weights:
        raise KeyError(prefix + name)
    return weights[name]


def network_keys(network: Callable[[], nn.Module]) -> list[str]:
    """The names of a network's weights."""
    with shapes_alone():
        return list(network().state_dict())
