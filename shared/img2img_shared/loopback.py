"""A1111's loopback: how strongly each of its renders changes what the one before has made."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Loop:
    """From the first render's strength to the last one's."""

    loops: int
    first: float
    last: float
    curve: Literal["Aggressive", "Linear", "Lazy"]

    def strength(self, number: int) -> float:
        """Denoising strength of render `number`, from 0 on."""
        if not number or self.loops == 1:
            return self.first
        progress = number / (self.loops - 1)
        if self.curve == "Aggressive":
            progress = math.sin(progress * math.pi * 0.5)
        elif self.curve == "Lazy":
            progress = 1 - math.cos(progress * math.pi * 0.5)
        return self.first + (self.last - self.first) * progress
