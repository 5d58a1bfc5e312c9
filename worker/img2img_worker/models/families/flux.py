"""Flux.1: a transformer over patches of 2 × 2 latent cells, T5's embeddings and CLIP's pooled one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.families.family import Cond
from img2img_worker.models.families.flow import PATCH, FlowFamily
from img2img_worker.models.prompts.t5 import T5
from img2img_worker.models.prompts.text_encoder import TextEncoder

#: the guidance of Flux.1 dev where a job names none, as in Forge and diffusers
DISTILLED_CFG_SCALE = 3.5
#: T5's tokens that Flux.1 dev and schnell were trained with
TOKENS_DEV, TOKENS_SCHNELL = 512, 256


@dataclass(frozen=True, kw_only=True)
class Flux(FlowFamily):
    """Flux.1 dev, which is told its guidance, or schnell, which is not. Implements `Family`."""

    #: CLIP-L; of what it makes of a prompt, only the pooled embedding is used
    clip: TextEncoder
    t5: T5

    @property
    def distilled(self) -> bool:
        return bool(self.transformer.config.guidance_embeds)

    @torch.inference_mode()
    def conditions(
        self,
        prompts: Sequence[str],
        *,
        clip_skip: int = 1,  # noqa: ARG002
        negative: bool = False,  # noqa: ARG002
        loras: Patch = NO_PATCH,
    ) -> list[Cond]:
        """As in `Family`; `clip_skip` does not reach Flux, and an empty negative prompt is one.

        Emphasis acts on T5's embeddings, as in Forge; the pooled one has none.
        """
        self.loras.texts.apply(loras)
        tokens = TOKENS_DEV if self.distilled else TOKENS_SCHNELL
        return [
            Cond(
                # kept as the transformer takes it: it is large
                context=self.t5.encode(prompt, tokens, emphasis=True).to(self.dtype),
                pooled=self.clip.pooled(prompt),
            )
            for prompt in prompts
        ]

    def place(
        self,
        cond: Cond,
        *,
        width: int,  # noqa: ARG002 (so are the interface's names)
        height: int,  # noqa: ARG002
        picture: Tensor | None = None,  # noqa: ARG002
        distilled_cfg_scale: float | None = None,
    ) -> Cond:
        if not self.distilled:
            return cond
        scale = DISTILLED_CFG_SCALE if distilled_cfg_scale is None else distilled_cfg_scale
        return replace(cond, guidance=torch.tensor(scale, dtype=torch.float32, device=self.device))

    def velocity(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        height, width = (side // PATCH for side in x.shape[-2:])
        numbers = (t,) if cond.guidance is None else (t, 1000 * cond.guidance)
        with _unrounded(self.transformer.time_text_embed, numbers):
            answer: Tensor = self.transformer(
                hidden_states=packed(x),
                timestep=t / 1000,
                guidance=cond.guidance,
                pooled_projections=None if cond.pooled is None else cond.pooled.to(self.dtype),
                encoder_hidden_states=cond.context,
                txt_ids=torch.zeros(cond.context.shape[-2], 3, device=x.device),
                img_ids=places(height, width, x.device),
                return_dict=False,
            )[0]
        return unpacked(answer, height, width)


def packed(x: Tensor) -> Tensor:
    """A token of each patch of 2 × 2 cells: [R, C, h, w] to [R, h/2 · w/2, 4C]."""
    rows, channels, height, width = x.shape
    patches = x.view(rows, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(rows, -1, channels * PATCH**2)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """The way back from tokens of height × width patches."""
    patches = tokens.view(tokens.shape[0], height, width, -1, PATCH, PATCH)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(tokens.shape[0], -1, height * PATCH, width * PATCH)


def places(height: int, width: int, device: torch.device) -> Tensor:
    """Where each patch lies, for rotary positions: (0, row, column), [height · width, 3]."""
    ids = torch.zeros(height, width, 3, device=device)
    ids[..., 1] = torch.arange(height, device=device)[:, None]
    ids[..., 2] = torch.arange(width, device=device)
    return ids.view(-1, 3)


@contextmanager
def _unrounded(embedding: nn.Module, numbers: tuple[Tensor, ...]) -> Iterator[None]:
    """Meanwhile, `embedding` is given these numbers, which diffusers rounds to the network's precision.

    In bfloat16, a timestep would be off by up to two.
    """

    def give(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (*numbers, *arguments[len(numbers) :])

    handle = embedding.register_forward_pre_hook(give)
    try:
        yield
    finally:
        handle.remove()
