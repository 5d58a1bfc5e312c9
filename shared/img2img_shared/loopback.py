"""A1111's loopback: the denoising strength of each of its renders."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Loop:
    """The change of strength from the first render to the last."""

    loops: int
    first: float
    last: float
    curve: Literal["Aggressive", "Linear", "Lazy"]

    def strength(self, number: int) -> float:
        """Denoising strength of render `number`, counted from 0."""
        if not number or self.loops == 1:
            return self.first
        progress = number / (self.loops - 1)
        if self.curve == "Aggressive":
            progress = math.sin(progress * math.pi * 0.5)
        elif self.curve == "Lazy":
            progress = 1 - math.cos(progress * math.pi * 0.5)
        return self.first + (self.last - self.first) * progress
