"""Stable Diffusion's UNet as it was published, written with the layers of diffusers' UNet.

Written from the papers' drawing: it upsamples by two, and fits to a skip connection where the two meet. Rows
are as long as their own contexts.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.inference_mode()
def original_unet(
    unet: Any, x: Tensor, t: Tensor, contexts: list[Tensor], added: dict[str, Tensor] | None = None
) -> Tensor:
    """The UNet's outputs for x [R, C, h, w], timesteps [R] and contexts [n, d], row by row.

    Args:
        added: SDXL's ``text_embeds`` and ``time_ids``, [R, ...].
    """
    return torch.cat(
        [
            _answer(
                unet, x[i, None], t[i, None], context[None], {k: v[i, None] for k, v in (added or {}).items()}
            )
            for i, context in enumerate(contexts)
        ]
    )


def _answer(unet: Any, x: Tensor, t: Tensor, context: Tensor, added: dict[str, Tensor]) -> Tensor:
    time = unet.time_embedding(unet.time_proj(t))
    if added:
        time = time + unet.get_aug_embed(emb=time, encoder_hidden_states=context, added_cond_kwargs=added)

    def layer(block: Any, number: int, h: Tensor) -> Tensor:
        h = block.resnets[number](h, time)
        if hasattr(block, "attentions"):
            h = block.attentions[number](h, encoder_hidden_states=context, return_dict=False)[0]
        return h

    h = unet.conv_in(x)
    skips = [h]
    for block in unet.down_blocks:
        for number in range(len(block.resnets)):
            h = layer(block, number, h)
            skips.append(h)
        for downsampler in block.downsamplers or ():
            h = downsampler(h)
            skips.append(h)
    h = layer(unet.mid_block, 0, h)
    h = unet.mid_block.resnets[1](h, time)
    for block in unet.up_blocks:
        for number in range(len(block.resnets)):
            skip = skips.pop()
            if h.shape[-2:] != skip.shape[-2:]:
                h = F.interpolate(h, size=skip.shape[-2:], mode="nearest")
            h = layer(block, number, torch.cat([h, skip], dim=1))
        for upsampler in block.upsamplers or ():
            h = upsampler(h)
    answer: Tensor = unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))
    return answer
