"""What both trainings share: resuming, the learning rate's schedule, moving averages."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn


@dataclass
class Clock:
    """Training time: minutes over all runs together, kept in the checkpoint."""

    minutes: float
    #: minutes already spent in earlier runs
    spent: float = 0.0

    def __post_init__(self) -> None:
        self._begun = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Minutes spent."""
        return self.spent + (time.monotonic() - self._begun) / 60

    @property
    def progress(self) -> float:
        """0 at the start, 1 when the time is over."""
        return min(1.0, self.elapsed / self.minutes)


def learning_rate(peak: float, step: int, progress: float, warmup: int = 100, floor: float = 0.04) -> float:
    """Linear warm-up, then a half cosine over the training's time down to `floor` of the peak."""
    fall = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    return peak * min(1.0, (step + 1) / warmup) * fall


def device() -> torch.device:
    """A GPU if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Average:
    """Exponential moving average of weights; young averages forget faster."""

    def __init__(self, modules: dict[str, nn.Module], decay: float) -> None:
        self._modules = modules
        self._decay = decay
        self.weights = {key: value.detach().clone() for key, value in self._named()}
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages with the modules' weights."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (20 + self.updates))
        names, values = zip(*self._named(), strict=True)
        torch._foreach_lerp_([self.weights[n] for n in names], [v.detach() for v in values], 1 - decay)

    def go_on(self, weights: dict[str, torch.Tensor], updates: int) -> None:
        """Continue an earlier run's averages."""
        self.weights = {key: value.to(self.weights[key].device) for key, value in weights.items()}
        self.updates = updates

    def _named(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, module in self._modules.items():
            for key, value in module.named_parameters():
                yield f"{name}/{key}", value


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a training state atomically: if the process is killed, the old or the new one is left."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def restore(path: Path) -> dict[str, Any] | None:
    """The state of an earlier run, or None."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
