"""A UNet's and a VAE's layers on a GPU, with fewer passes over memory: see `triton_kernels`."""

import importlib
import logging
from functools import cache, partial
from typing import Any

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional as F

log = logging.getLogger(__name__)

#: imported where there is a GPU only
KERNELS = "img2img_worker.models.families.triton_kernels"


def fuse_layers(network: nn.Module) -> None:
    """Has the layers of `network`, on a GPU and channels last, run as kernels of their own.

    Nothing happens where these cannot be made. Norms with hooks, as tiles have, run as before.

    Raises:
        torch.OutOfMemoryError: there is no room for them now.
    """
    device = next((weight.device for weight in network.parameters()), None)
    kernels = None if device is None else kernels_on(device)
    if kernels is None:
        return
    layers = FusedLayers(kernels)
    for module in network.modules():
        if isinstance(module, ResnetBlock2D) and _is_plain(module):
            module.forward = partial(layers.resnet, module)
        elif isinstance(module, Transformer2DModel):
            module._operate_on_continuous_inputs = partial(layers.tokens, module)
            module._get_output_for_continuous_inputs = partial(layers.picture, module)
        elif isinstance(module, BasicTransformerBlock):
            for norm in (module.norm1, module.norm2, module.norm3):
                if isinstance(norm, nn.LayerNorm) and norm.weight is not None and norm.bias is not None:
                    norm.forward = partial(layers.layer_norm, norm)  # type: ignore[method-assign]  # this one's
        elif isinstance(module, Upsample2D) and _doubles(module):
            module.forward = partial(layers.upsample, module)
        elif isinstance(module, GEGLU):
            module.forward = partial(layers.geglu, module)
        elif isinstance(module, nn.GroupNorm):
            module.forward = partial(layers.norm, module)  # type: ignore[method-assign]  # this one's


@cache
def kernels_on(device: torch.device) -> Any:
    """The module `triton_kernels`; None: here its kernels cannot be made, which the log then tells once."""
    try:
        kernels = importlib.import_module(KERNELS)
        picture = torch.zeros(1, 32, 2, 2, device=device).contiguous(memory_format=torch.channels_last)
        kernels.summed(picture, picture, picture[0, :, 0, 0].contiguous())
        torch.cuda.synchronize(device)
    except torch.OutOfMemoryError:  # which passes, and is not remembered
        raise
    except Exception as error:  # no Triton, no compiler, no header, a card that it does not know, ...
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        log.warning(
            "kernels cannot be made here (%s): rendering takes half as long again; what Triton wants is a C "
            "compiler, as gcc with libc6-dev, and Python's headers",
            why,
        )
        return None
    return kernels


class FusedLayers:
    """Forwards of layers by kernels.

    Args:
        kernels: the module `triton_kernels`.
    """

    def __init__(self, kernels: Any) -> None:
        self._kernels = kernels

    def norm(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """Of pictures [R, C, H, W], or as torch does it of what has another shape."""
        if x.dim() != 4:
            return torch.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
        return self._normed(norm, x)

    def resnet(self, block: Any, x: Tensor, temb: Tensor | None = None) -> Tensor:
        """Of pictures [R, C, H, W] and time embeddings [R, d]."""
        if _has_hooks(block.norm1, block.norm2):
            return type(block).forward(block, x, temb)  # type: ignore[no-any-return]  # diffusers has no types
        x = _channels_last(x)
        found = _without_bias(block.conv1, self._normed(block.norm1, x, silu=True))
        add = block.conv1.bias[None]
        if temb is not None and block.time_emb_proj is not None:
            add = add + block.time_emb_proj(F.silu(temb))
        found = _without_bias(block.conv2, self._normed(block.norm2, found, add=add, silu=True))
        shortcut = x if block.conv_shortcut is None else _pointwise(block.conv_shortcut, x)
        total: Tensor = self._kernels.summed(
            _channels_last(shortcut), _channels_last(found), block.conv2.bias
        )
        return total

    def tokens(self, model: Any, x: Tensor) -> tuple[Tensor, int]:
        """What a transformer makes of pictures [R, C, H, W] to begin with: tokens [R, H · W, d], and d."""
        x = self._normed(model.norm, x)
        if model.use_linear_projection:
            tokens = model.proj_in(_as_tokens(x))
        else:
            tokens = _as_tokens(_pointwise(model.proj_in, x))
        return tokens, tokens.shape[-1]

    def picture(
        self, model: Any, *, hidden_states: Tensor, residual: Tensor, height: int, width: int, **_: int
    ) -> Tensor:
        """The way back from tokens [R, H · W, d] to pictures, to which `residual` is added."""
        tokens = model.proj_out(hidden_states) if model.use_linear_projection else hidden_states
        picture = tokens.view(len(tokens), height, width, -1).permute(0, 3, 1, 2)
        if not model.use_linear_projection:
            picture = _pointwise(model.proj_out, picture)
        return picture + residual

    def upsample(self, layer: Any, x: Tensor, output_size: tuple[int, int] | None = None) -> Tensor:
        """Of pictures [R, C, H, W]: twice as large, and convolved."""
        if output_size is not None:
            return type(layer).forward(layer, x, output_size)  # type: ignore[no-any-return]  # no types
        found: Tensor = layer.conv(self._kernels.doubled(_channels_last(x)))
        return found

    def layer_norm(self, norm: nn.LayerNorm, x: Tensor) -> Tensor:
        """Of tokens [R, n, d]."""
        normed: Tensor = self._kernels.layer_norm(x.contiguous(), norm.weight, norm.bias, norm.eps)
        return normed

    def geglu(self, layer: GEGLU, x: Tensor) -> Tensor:
        """Of [..., n], the answer of its projection gated by half of it."""
        gated: Tensor = self._kernels.gated(layer.proj(x).contiguous())
        return gated

    def _normed(self, norm: Any, x: Tensor, **then: Any) -> Tensor:
        x = _channels_last(x)
        if _has_hooks(norm):
            return norm(x)  # type: ignore[no-any-return]  # a module's
        found: Tensor = self._kernels.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps, **then)
        return found


def _is_plain(block: Any) -> bool:
    """Whether it is as `FusedLayers.resnet` has it, which those of Stable Diffusion are."""
    return (
        block.upsample is None
        and block.downsample is None
        and (block.time_embedding_norm == "default" or block.time_emb_proj is None)
        and isinstance(block.nonlinearity, nn.SiLU)
        and isinstance(block.norm1, nn.GroupNorm)
        and not block.skip_time_act
        and block.output_scale_factor == 1.0
        and all(layer.bias is not None for layer in (block.conv1, block.conv2))
    )


def _doubles(layer: Any) -> bool:
    """Whether it is as `FusedLayers.upsample` has it."""
    return bool(
        layer.interpolate and not layer.use_conv_transpose and layer.norm is None
        and layer.use_conv and layer.name == "conv"
    )  # fmt: skip


def _has_hooks(*norms: nn.Module) -> bool:
    return any(norm._forward_hooks or norm._forward_pre_hooks for norm in norms)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _without_bias(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    answer: Tensor = convolution._conv_forward(x, convolution.weight, None)
    return _hooked(convolution, x, answer)


def _pointwise(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of single pixels as a matrix product, which has its bias with it."""
    if convolution.kernel_size != (1, 1) or convolution.stride != (1, 1):
        return convolution(x)  # type: ignore[no-any-return]  # a module's
    answer = F.linear(x.permute(0, 2, 3, 1), convolution.weight.flatten(1), convolution.bias)
    return _hooked(convolution, x, answer.permute(0, 3, 1, 2))


def _hooked(convolution: nn.Conv2d, x: Tensor, answer: Tensor) -> Tensor:
    """What hooks make of an answer, as if the module had been called: LoRAs add each row's own to it."""
    for hook in convolution._forward_hooks.values():
        found = hook(convolution, (x,), answer)
        answer = answer if found is None else found
    return answer


def _as_tokens(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1, 2)
