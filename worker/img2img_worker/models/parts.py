"""What a checkpoint consists of, before it becomes a network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Component:
    """One network of a checkpoint, in diffusers' and transformers' terms."""

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A whole checkpoint, whichever layout it was read from."""

    #: where it was read from, for messages
    source: str
    unet: Component
    vae: Component
    #: one, or SDXL's two
    text_encoders: tuple[Component, ...]
    #: CLIPTokenizers, one for each text encoder
    tokenizers: tuple[Any, ...]
    #: keys of diffusers' ``scheduler_config.json``
    scheduler: Mapping[str, Any]
