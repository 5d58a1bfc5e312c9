"""Flux.1: a transformer over patches of 2 × 2 latent cells, T5's embeddings and CLIP's pooled one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from img2img_shared.params import Params
from img2img_worker.models.adapters.hypernetworks import NO_HYPERNETWORKS, HypernetworkSet
from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.control.block_samples import block_samples
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.flow import FlowFamily
from img2img_worker.models.families.patches import (
    PATCH,
    exact_numbers,
    pack_patches,
    positions,
    unpack_patches,
)
from img2img_worker.models.prompts.prompt_options import DEFAULTS, PromptOptions
from img2img_worker.models.prompts.t5 import T5
from img2img_worker.models.prompts.text_encoder import Encoded, TextEncoder
from img2img_worker.models.steps import Steps
from img2img_worker.models.transfer import to_device

#: the distilled guidance of Flux.1 dev by default, as in Forge and diffusers
DISTILLED_CFG_SCALE = 3.5
#: T5's tokens that Flux.1 dev and schnell were trained with
TOKENS_DEV, TOKENS_SCHNELL = 512, 256


@dataclass(frozen=True, kw_only=True)
class Flux(FlowFamily):
    """Flux.1 dev, with the guidance scale as an input, or schnell, without. Implements `Family`."""

    #: CLIP-L; only its pooled embedding is used
    clip: TextEncoder
    t5: T5

    @property
    def distilled(self) -> bool:
        return bool(self.transformer.config.guidance_embeds)

    def encode_prompts(
        self,
        prompts: Sequence[str],
        *,
        options: PromptOptions = DEFAULTS,
        negative: bool = False,
        loras: Patch = NO_PATCH,
    ) -> Steps[list[Encoded]]:
        """As in `Family`; `clip_skip` has no effect, and an empty negative prompt is encoded like any other.

        Emphasis acts on T5's embeddings, as in Forge, and not on the pooled one.
        """
        return self.loras.texts.during(loras, self._encode(prompts, options))

    def context_length(self, prompts: Sequence[str], options: PromptOptions) -> int:
        return TOKENS_DEV if self.distilled else TOKENS_SCHNELL

    def _encode(self, prompts: Sequence[str], options: PromptOptions) -> Steps[list[Encoded]]:
        length = self.context_length(prompts, options)
        encoded = []
        for prompt in prompts:
            # in the transformer's precision, since T5's embeddings are large
            context = self.t5.encode(prompt, length, emphasis=options.emphasis).to(self.dtype)
            encoded.append(Encoded(context=context, pooled=self.clip.pooled(prompt, options)))
            yield
        return encoded

    def condition(
        self,
        text: Encoded,
        params: Params,
        *,
        picture: Tensor | None = None,
        patch: Patch = NO_PATCH,
        hypernetworks: HypernetworkSet = NO_HYPERNETWORKS,
    ) -> Condition:
        plain = super().condition(text, params, picture=picture, patch=patch, hypernetworks=hypernetworks)
        if not self.distilled:
            return plain
        scale = DISTILLED_CFG_SCALE if params.distilled_cfg_scale is None else params.distilled_cfg_scale
        guidance = to_device(torch.tensor(scale, dtype=torch.float32), self.device)
        return replace(plain, tensors={**plain.tensors, "guidance": guidance})

    def velocity(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        height, width = (side // PATCH for side in x.shape[-2:])
        guidance = conditions.tensors.get("guidance")
        blocks = len(self.transformer.transformer_blocks), len(self.transformer.single_transformer_blocks)
        # a control network may need the guidance where the transformer does not
        tensors = {"guidance": t.new_full(t.shape, DISTILLED_CFG_SCALE), **conditions.tensors}
        double, single = block_samples(conditions.controls, x, t, tensors, blocks)
        numbers = (t,) if guidance is None else (t, 1000 * guidance)
        with exact_numbers(self.transformer.time_text_embed, numbers):
            answer: Tensor = self.transformer(
                hidden_states=pack_patches(x),
                timestep=t / 1000,
                guidance=guidance,
                pooled_projections=conditions.tensors.get("pooled"),
                encoder_hidden_states=conditions.context,
                txt_ids=torch.zeros(conditions.context.shape[-2], 3, device=x.device),
                img_ids=positions(height, width, x.device),
                controlnet_block_samples=double,
                controlnet_single_block_samples=single,
                return_dict=False,
            )[0]
        return unpack_patches(answer, height, width)
