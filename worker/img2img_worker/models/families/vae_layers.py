"""diffusers' AutoencoderKL layer by layer, as its own `forward` goes through them."""

from collections.abc import Callable
from functools import partial
from typing import Any

from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D, UpDecoderBlock2D
from torch import Tensor

Layer = Callable[[Tensor], Tensor]


def encoder_layers(network: Any) -> list[Layer]:
    """From pictures [B, 3, H, W] to the mean of their posterior, [B, C, h, w]."""
    encoder = network.encoder
    blocks = [layer for block in encoder.down_blocks for layer in _inside(block)]
    return [encoder.conv_in, *blocks, encoder.mid_block, *_end(encoder), *_if_any(network.quant_conv), _mean]


def decoder_layers(network: Any) -> list[Layer]:
    """From latents [B, C, h, w] to pictures [B, 3, H, W]."""
    decoder = network.decoder
    blocks = [layer for block in decoder.up_blocks for layer in _inside(block)]
    begin = [*_if_any(network.post_quant_conv), decoder.conv_in, decoder.mid_block]
    return [*begin, *blocks, *_end(decoder)]


def _inside(block: Any) -> list[Layer]:
    if isinstance(block, DownEncoderBlock2D):
        return [*_resnets(block), *(block.downsamplers or ())]
    if isinstance(block, UpDecoderBlock2D):
        return [*_resnets(block), *(block.upsamplers or ())]
    return [block]  # one with attention: published in no checkpoint of these families


def _resnets(block: Any) -> list[Layer]:
    return [partial(resnet, temb=None) for resnet in block.resnets]


def _end(half: Any) -> list[Layer]:
    return [half.conv_norm_out, half.conv_act, half.conv_out]


def _mean(moments: Tensor) -> Tensor:
    """The mean, from mean and logarithm of the variance."""
    return moments.chunk(2, dim=1)[0]


def _if_any(layer: Any) -> list[Layer]:
    return [] if layer is None else [layer]
