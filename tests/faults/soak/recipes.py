"""The soak's jobs: few enough different images that each can be rendered alone, too."""

import base64
import random
from dataclasses import dataclass
from typing import Any

from tests.faults.farm import picture
from tests.faults.malicious_input import corpus

SAMPLERS = ("Euler", "Euler a", "Heun", "DDIM", "DPM++ 2M")
#: sets of parameters, and pictures, of one run
RECIPES, PICTURES = 24, 10
#: chance that a job has a hostile picture among its inputs
HOSTILE = 0.2


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Parameters of a job. All its images have one seed, so that each depends on its input alone."""

    steps: int
    strength: float
    sampler: str
    width: int
    seed: int

    def params(self) -> dict[str, Any]:
        """As the farm's own clients send them."""
        return {
            "steps": self.steps,
            "denoising_strength": self.strength,
            "sampler_name": self.sampler,
            "width": self.width,
            "height": 64,
            "seed": self.seed,
            "subseed": 0,
            "seed_mode": "same",
        }

    def a1111(self, image: bytes) -> dict[str, Any]:
        """The body of ``/sdapi/v1/img2img`` for one picture."""
        params = {name: value for name, value in self.params().items() if name != "seed_mode"}
        return {**params, "init_images": [base64.b64encode(image).decode()]}


class Recipes:
    """The recipes and pictures of one run."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self._recipes = [
            Recipe(
                steps=chance.randint(1, 12),
                strength=chance.uniform(0, 1),
                sampler=chance.choice(SAMPLERS),
                width=chance.choice((64, 72)),
                seed=chance.randrange(2**32),
            )
            for _ in range(RECIPES)
        ]
        self._pictures = [picture(number) for number in range(PICTURES)]
        #: small hostile pictures, without those that no client would send
        self._hostile = [
            sample.data for sample in corpus() if 0 < len(sample.data) < 100_000 and sample.mask_of is None
        ]

    def recipe(self, chance: random.Random) -> Recipe:
        """One of them."""
        return chance.choice(self._recipes)

    def picture(self, chance: random.Random) -> bytes:
        """One that can be rendered."""
        return chance.choice(self._pictures)

    def inputs(self, chance: random.Random) -> list[bytes]:
        """Those of one job."""
        chosen = [self.picture(chance) for _ in range(chance.randint(1, 5))]
        return [*chosen, chance.choice(self._hostile)] if chance.random() < HOSTILE else chosen
