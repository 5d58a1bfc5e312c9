"""Networks that cost nothing, to measure the engine's own cost."""

import threading
from typing import Any, cast

import torch
from torch import Tensor

from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.family import Family
from img2img_worker.models.families.vae import Decoded, to_pictures
from img2img_worker.models.steps import Steps, without_steps


def free(family: Family, size: int, rows: int, go: threading.Event | None = None) -> Family:
    """`family` with networks that cost nothing, and that start once `go` is set."""
    return cast(Family, _Free(family, size, rows, go))


class _Free:
    def __init__(self, family: Family, size: int, rows: int, go: threading.Event | None) -> None:
        self._go = go
        self._answers = torch.zeros(rows, family.latent_channels, size, size, device=family.device)
        self._family = family

    def __getattr__(self, name: str) -> Any:
        return getattr(self._family, name)

    def predict(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        if self._go is not None:
            self._go.wait()
        return self._answers[: len(x)]

    def encode_steps(self, pixels: Tensor, **how: Any) -> Steps[Tensor]:
        return without_steps(torch.zeros(len(pixels), *self._answers.shape[1:], device=self._answers.device))

    def decode_steps(self, latents: Tensor, **how: Any) -> Steps[Decoded]:
        black = torch.full((len(latents), 3, 8, 8), -1.0, device=latents.device)
        return without_steps(to_pictures(black))
