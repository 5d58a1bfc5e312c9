"""CLIP's text transformer (Radford et al. 2021), as in the checkpoints of Stable Diffusion.

transformers has it too, but takes longer to import than a checkpoint of SD 1.5 takes to load. The names of
weights and settings are transformers', as in the folders that diffusers saves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


#: OpenAI's models were trained with the first, OpenCLIP's with the second
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": _quick_gelu, "gelu": F.gelu}


@dataclass(frozen=True, kw_only=True)
class ClipTextConfig:
    """The settings of ``config.json`` that the network depends on, with their defaults."""

    vocab_size: int = 49_408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int = 512
    #: the token at which the state is pooled; 2, in older files, stands for the token with the highest id
    eos_token_id: int = 49_407

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """The settings among all those of a ``config.json``."""
        return cls(**{each.name: config[each.name] for each in fields(cls) if each.name in config})


@dataclass(frozen=True, kw_only=True)
class TextStates:
    """The network's output for `B` rows of `n` tokens."""

    #: [B, n, d] before the first layer, and after each
    hidden: tuple[Tensor, ...]
    #: [B, d], the last state at the end token, after the final norm
    pooled: Tensor
    #: [B, p], the projection of `pooled`; None: the network has none
    projected: Tensor | None


class ClipText(nn.Module):
    """The network.

    Args:
        projects: whether its pooled state goes through a projection.

    Raises:
        ValueError: CLIP has no such configuration.
    """

    def __init__(self, config: ClipTextConfig, *, projects: bool) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.text_projection = (
            nn.Linear(config.hidden_size, config.projection_dim, bias=False) if projects else None
        )

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.final_layer_norm.weight.device

    @property
    def token_embedding(self) -> nn.Embedding:
        """A vector [d] for each token."""
        return self.embeddings.token_embedding

    def forward(self, tokens: Tensor, insert: Callable[[Tensor], None] | None = None) -> TextStates:
        """The states of tokens [B, n].

        Args:
            insert: writes vectors of textual inversions into the tokens' embeddings [B, n, d].
        """
        embedded = self.token_embedding(tokens)
        if insert is not None:
            insert(embedded)
        hidden = [embedded + self.embeddings.position_embedding.weight[: tokens.shape[-1]]]
        for layer in self.encoder.layers:
            hidden.append(layer(hidden[-1]))
        ends = tokens if self.config.eos_token_id == 2 else (tokens == self.config.eos_token_id).int()
        rows = torch.arange(len(tokens), device=tokens.device)
        pooled = self.final_layer_norm(hidden[-1])[rows, ends.argmax(dim=-1)]
        projected = None if self.text_projection is None else self.text_projection(pooled)
        return TextStates(hidden=tuple(hidden), pooled=pooled, projected=projected)


class _Embeddings(nn.Module):
    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)


class _Encoder(nn.Module):
    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))


class _Layer(nn.Module):
    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.self_attn = _Attention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = _Mlp(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        changed: Tensor = x + self.mlp(self.layer_norm2(x))
        return changed


class _Attention(nn.Module):
    """Each token attends to itself and those before it."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        if width % self.heads:
            raise ValueError(f"hidden_size {width} is no multiple of num_attention_heads {self.heads}")
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        answer: Tensor = self.out_proj(seen.transpose(1, 2).flatten(2))
        return answer


class _Mlp(nn.Module):
    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        if config.hidden_act not in _ACTIVATIONS:
            raise ValueError(f"hidden_act is {config.hidden_act}, not {' or '.join(_ACTIVATIONS)}")
        self.activation = _ACTIVATIONS[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.fc2(self.activation(self.fc1(x)))
        return answer
