"""Stable Diffusion 3 and 3.5: a transformer whose context is two CLIPs' embeddings followed by T5's."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.control.block_samples import block_samples
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.flow import FlowFamily
from img2img_worker.models.prompts.prompt_options import DEFAULTS, PromptOptions
from img2img_worker.models.prompts.t5 import T5
from img2img_worker.models.prompts.text_encoder import Encoded, TextEncoder, encode_side_by_side
from img2img_worker.models.steps import Steps


@dataclass(frozen=True, kw_only=True)
class StableDiffusion3(FlowFamily):
    """Two CLIP text models, and T5 or, A1111's default, zeros in T5's place. Implements `Family`."""

    texts: tuple[TextEncoder, ...]
    t5: T5 | None = None

    @property
    def most_patches(self) -> int | None:
        return int(self.transformer.config.pos_embed_max_size)

    def encode_prompts(
        self,
        prompts: Sequence[str],
        *,
        options: PromptOptions = DEFAULTS,
        negative: bool = False,
        loras: Patch = NO_PATCH,
    ) -> Steps[list[Encoded]]:
        """As in `Family`; `clip_skip` has no effect, and an empty negative prompt is encoded like any other.

        As in A1111, T5 gets as many tokens as CLIP, and emphasis does not act on its embeddings.
        """
        return self.loras.texts.during(loras, self._encode(prompts, options))

    def context_length(self, prompts: Sequence[str], options: PromptOptions) -> int:
        return 2 * self.texts[0].length(prompts, options)

    def _encode(self, prompts: Sequence[str], options: PromptOptions) -> Steps[list[Encoded]]:
        width = int(self.transformer.config.joint_attention_dim)
        encoded = []
        clips = yield from encode_side_by_side(self.texts, prompts, options)
        for prompt, clip in zip(prompts, clips, strict=True):
            length = clip.context.shape[0]
            context = F.pad(clip.context, (0, width - clip.context.shape[-1]))
            rest = torch.zeros_like(context)
            if self.t5 is not None:
                unweighted = "None" if options.emphasis == "None" else "Ignore"
                rest = self.t5.encode(prompt, length, emphasis=unweighted)
                yield
            # in the transformer's precision, since T5's embeddings are large
            context = torch.cat([context, rest]).to(self.dtype)
            encoded.append(Encoded(context=context, pooled=clip.pooled))
        return encoded

    def velocity(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        blocks = (len(self.transformer.transformer_blocks),)
        (samples,) = block_samples(conditions.controls, x, t, conditions.tensors, blocks)
        answer: Tensor = self.transformer(
            x,
            timestep=t,
            encoder_hidden_states=conditions.context,
            pooled_projections=conditions.tensors.get("pooled"),
            block_controlnet_hidden_states=samples,
            return_dict=False,
        )[0]
        return answer
