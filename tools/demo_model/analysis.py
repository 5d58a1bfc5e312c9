"""The encoder: principal components of 8 x 8 patches, found in closed form and written into its weights.

Three times, 2 x 2 neighbours are joined and their strongest principal components kept; the last ones are the
latent. An encoder that is given rather than learnt needs no training, and the denoiser can be trained on its
latents while the decoder still learns to turn them into pictures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

#: channels of the latent
CHANNELS = 8
#: components kept after each merging of 2 × 2 blocks; the network's channels must be enough for them
KEPT = (12, 32, CHANNELS)
#: a latent channel's deviation is that of its component, to this power: 1 keeps proportions, 0 equalizes all
BALANCE = 0.4
#: constants beside the signals, so large that the last normalisation divides by almost nothing but them
_CONSTANT = 12.0
#: where SiLU is almost a straight line
_LIFT = 10.0

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The linear map from pictures to latents."""

    #: [KEPT[0], 12], [KEPT[1], 4 · KEPT[0]], [CHANNELS, 4 · KEPT[1]]; the last gives unit deviation
    stages: tuple[Tensor, ...]
    #: mean of the last stage's components, [CHANNELS]
    mean: Tensor
    #: deviation of each latent channel, [CHANNELS]
    scale: Tensor

    @classmethod
    def fit(cls, pictures: NDArray[np.uint8]) -> Self:
        """The components of these pictures, uint8 [N, H, W, 3]."""
        features = torch.from_numpy(pictures).float() / 127.5 - 1
        stages = []
        for kept in KEPT:
            blocks = _blocks(features)
            flat = blocks.flatten(0, 2)
            values, vectors = torch.linalg.eigh(torch.cov(flat.T))
            stages.append(vectors.flip(1).T[:kept].contiguous())
            features = blocks @ stages[-1].T
        variances = values.flip(0)[:CHANNELS]
        stages[-1] = stages[-1] / variances.sqrt()[:, None]
        mean = (features / variances.sqrt()).flatten(0, 2).mean(0)
        scale = variances.sqrt() ** BALANCE
        return cls(stages=tuple(stages), mean=mean, scale=scale / scale.square().mean().sqrt())

    def latents(self, pictures: Tensor) -> Tensor:
        """float32 [B, 3, H, W] in -1..1 to [B, CHANNELS, H / 8, W / 8]."""
        features = pictures.permute(0, 2, 3, 1)
        for stage in self.stages:
            features = _blocks(features) @ stage.T
        return ((features - self.mean) * self.scale).permute(0, 3, 1, 2).contiguous()

    @torch.no_grad()
    def install(self, model: Any) -> None:
        """Write the map into the encoder of an AutoencoderKL with one layer in each of four blocks.

        Residual branches are switched off, each downsampling takes a stage; the last normalisation and SiLU
        are made harmless by large constants and a lift. What remains of them is an error below a percent.
        """
        encoder: Any = model.encoder
        _clear(encoder)
        encoder.conv_in.weight[:3, :, 1, 1] = torch.eye(3)
        for block, stage in zip(encoder.down_blocks[:3], self.stages, strict=True):
            _pass_on(block.resnets[0])
            into = block.downsamplers[0].conv.weight
            channels = stage.shape[1] // 4
            into[: len(stage), :channels, :2, :2] = stage.view(len(stage), 2, 2, channels).permute(0, 3, 1, 2)
        last, norm = encoder.down_blocks[3].resnets[0], encoder.conv_norm_out
        group = norm.num_channels // norm.num_groups
        signals = range(0, group * CHANNELS, group)
        for sign, offset in ((1, 0), (-1, 1)):  # one in each group, and its mirror image: their mean is 0
            places = [k + offset for k in signals]
            last.conv_shortcut.weight[places, range(CHANNELS), 0, 0] = float(sign)
            last.conv_shortcut.bias[places] = -sign * self.mean
        for k in range(norm.num_channels):
            if k % group > 1:
                last.conv_shortcut.bias[k] = _CONSTANT * (-1) ** (k % group)
        encoder.conv_out.weight[range(CHANNELS), signals, 1, 1] = self.scale
        typical = _CONSTANT * ((group - 2) / group) ** 0.5
        norm.weight.fill_(typical)
        norm.bias.fill_(_LIFT)
        encoder.conv_out.bias[:CHANNELS] = -_LIFT * self.scale
        encoder.conv_out.bias[CHANNELS:] = -12.0  # log variance
        model.quant_conv.weight[:, :, 0, 0] = torch.eye(2 * CHANNELS)
        model.quant_conv.bias.zero_()

    def state(self) -> dict[str, Any]:
        """As tensors, for a file."""
        return {"stages": list(self.stages), "mean": self.mean, "scale": self.scale}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What `state` gave."""
        return cls(stages=tuple(state["stages"]), mean=state["mean"], scale=state["scale"])


def _blocks(features: Tensor) -> Tensor:
    """[B, H, W, C] to [B, H / 2, W / 2, 4 C]: each 2 × 2 block's rows, columns and channels."""
    b, h, w, c = features.shape
    return (
        features.reshape(b, h // 2, 2, w // 2, 2, c)
        .permute(0, 1, 3, 2, 4, 5)
        .reshape(b, h // 2, w // 2, 4 * c)
    )


def _clear(encoder: Any) -> None:
    """Set every convolution and the attention's output to zero, so that a block passes its input on."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.zero_()
            if module.bias is not None:
                module.bias.zero_()
    for attention in encoder.mid_block.attentions:
        attention.to_out[0].weight.zero_()
        attention.to_out[0].bias.zero_()


def _pass_on(resnet: Any) -> None:
    if resnet.conv_shortcut is not None:
        width = resnet.conv_shortcut.weight.shape[1]
        resnet.conv_shortcut.weight[range(width), range(width), 0, 0] = 1.0
