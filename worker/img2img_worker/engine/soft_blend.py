"""A1111's soft inpainting: how much of a picture a half-masked cell keeps, step by step."""

import torch
from torch import Tensor

#: A1111's, against a division by zero
_LEAST = 1e-5


def soft_exponent(sigma: float, power: float, scale: float) -> float:
    """What a mask is raised to at a noise level: the less noise, the less is kept where it is not whole."""
    return float(sigma**power * scale)


def soft_blend(latents: Tensor, kept: Tensor, mask: Tensor, exponent: Tensor, contrast: Tensor) -> Tensor:
    """`latents` where the mask is 1, `kept` where it is 0, and in between a mixture that keeps its contrast.

    The mixture's direction is linear. Its magnitude is a power mean of both, which is not: with a large
    `contrast` that of the larger one. (A1111: ``soft_inpainting.latent_blend``.)

    Args:
        latents, kept: float32 [n, C, h, w].
        mask: [n, 1, h, w] in 0..1.
        exponent, contrast: [n], `soft_exponent` and the exponent of the mean, at least 1.
    """
    share = mask ** exponent[:, None, None, None]
    power = contrast[:, None, None, None]
    mixed = torch.lerp(kept, latents, share)
    a, b = _magnitude(kept), _magnitude(latents)
    # the larger is taken out of the powers, which would overflow
    larger = torch.maximum(a, b).clamp_min(torch.finfo(a.dtype).tiny)
    mean = larger * ((a / larger) ** power * (1 - share) + (b / larger) ** power * share) ** (1 / power)
    # chosen, not multiplied: 0·nan is nan. What is kept is shorter by as much as the rest, as in A1111: where
    # the least change is to show (``composite_difference_threshold`` 0), that is one
    return torch.where(share == 0, kept * (a / (a + _LEAST)), mixed * (mean / (_magnitude(mixed) + _LEAST)))


def _magnitude(latents: Tensor) -> Tensor:
    return (latents * latents).sum(1, keepdim=True).sqrt()
