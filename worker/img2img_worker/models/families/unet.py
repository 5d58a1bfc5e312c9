"""Changes diffusers' UNet to compute what Stable Diffusion's published one does, which A1111 runs."""

from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from img2img_worker.models.families.context_runs import Run
from img2img_worker.models.families.multi_head_attention import attend, split_heads


def as_published(unet: Any) -> None:
    """Have diffusers' `unet` compute what the published one does, for any size and contexts of any length."""
    upsample_by_two(unet)
    attend_by_length(unet)
    norm_single_values(unet)


def upsample_by_two(unet: Any) -> None:
    """Have upsamplers double, convolve, and only then resize to what they are concatenated with.

    Where a latent's sides cannot be halved evenly, diffusers' upsamplers resize first and convolve then,
    which gives another picture.
    """
    for block in unet.up_blocks:
        for upsampler in block.upsamplers or ():
            upsampler.forward = partial(_double_then_fit, upsampler.forward)


def attend_by_length(unet: Any) -> None:
    """Let the rows of a call have contexts of different lengths: `Run`s in place of one tensor.

    Only the layers that attend to the context work run by run; all others compute all rows at once.
    """
    ours = {"attn1.processor": SelfAttention, "attn2.processor": CrossAttention}
    processors = {}
    for name, processor in unet.attn_processors.items():
        kind = ours.get(".".join(name.split(".")[-2:]))
        processors[name] = processor if kind is None else kind()
    unet.set_attn_processor(processors)


def norm_single_values(unet: Any) -> None:
    """Let group norms normalise a group of one value, to 0; torch refuses that for the sake of training.

    It happens in networks with as many groups as channels, where a latent is halved down to one cell.
    """
    for norm in unet.modules():
        if isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels:
            norm.forward = partial(_group_norm, norm)  # type: ignore[method-assign]  # this network's only


class SelfAttention:
    """diffusers' attention processor without its last step, which divides everything by one."""

    def __call__(
        self,
        attention: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> Tensor:
        """Self-attention.

        Args:
            attention: a UNet's `attn1`, which has no masks or norms of its own.
            hidden_states: [R, n, d].

        Returns:
            [R, n, d].
        """
        query = split_heads(attention.to_q(hidden_states), attention.heads)
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        return _project_out(attention, attend(query, attention.to_k(seen), attention.to_v(seen)))


class CrossAttention:
    """An attention processor for contexts of different lengths, and for further attention of the rows.

    On a CPU, a context's keys and values are computed once, and cached as long as the context exists: a
    call's rows have the same one at every step, and whatever changes the layer comes with other contexts.
    """

    def __init__(self) -> None:
        #: context -> its keys and values
        self._projected: MutableMapping[Tensor, tuple[Tensor, Tensor]] = WeakIdKeyDictionary()
        #: each adds the attention of the queries [R, heads, n, d] to something else to [R, n, heads · d]
        self.more: tuple[Callable[[Tensor, Tensor], None], ...] = ()

    def __call__(
        self,
        attention: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | tuple[Run, ...],
        *_: Any,
        **__: Any,
    ) -> Tensor:
        """Attention to the context, and to what `more` adds.

        Args:
            attention: a UNet's `attn2`, which has no masks or norms of its own.
            hidden_states: [R, n, d].

        Returns:
            [R, n, d].
        """
        query = split_heads(attention.to_q(hidden_states), attention.heads)
        if isinstance(encoder_hidden_states, Tensor):
            answer = self._attend(attention, query, encoder_hidden_states)
        else:
            answer = torch.cat([self._attend_run(attention, query, run) for run in encoder_hidden_states])
        for add in self.more:
            add(answer, query)
        return _project_out(attention, answer)

    def _attend_run(self, attention: Any, query: Tensor, run: Run) -> Tensor:
        if len(run.context) == len(query):
            return self._attend(attention, query, run.context)[run.rows]
        return self._attend(attention, query[run.rows], run.context)

    def _attend(self, attention: Any, query: Tensor, context: Tensor) -> Tensor:
        # not on a GPU: a CUDA graph reads every context from the same memory
        keeps = not context.is_cuda and not torch.compiler.is_compiling()
        projected = self._projected.get(context) if keeps else None
        if projected is None:
            projected = attention.to_k(context), attention.to_v(context)
            if keeps:
                self._projected[context] = projected
        return attend(query, *projected)


def _project_out(attention: Any, answer: Tensor) -> Tensor:
    found: Tensor = attention.to_out[1](attention.to_out[0](answer))
    return found


def _group_norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    return torch.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)


def _double_then_fit(
    forward: Callable[[Tensor], Tensor], x: Tensor, output_size: tuple[int, int] | None = None
) -> Tensor:
    doubled = forward(x)
    if output_size is None or doubled.shape[-2:] == output_size:
        return doubled
    return F.interpolate(doubled, size=output_size, mode="nearest")
