"""The engine's last latents against those of A1111's own sampler code, run on the same toy network.

`a1111/sampling.json` holds parameters, `a1111/sampling.npz` every second row and column of what A1111 v1.10.1
made of them on a CPU: its samplers, schedules, guidance, noise and prompt editing, with everything else left
out.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.render import Render
from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.vae import Decoded
from img2img_worker.models.prompts.prompt_options import DEFAULTS, PromptOptions
from img2img_worker.models.prompts.text_encoder import Encoded
from img2img_worker.models.steps import Steps
from tests.unit.engine_toys import ToyFamily, contexts

DATA = Path(__file__).parent / "a1111"
CASES: list[dict[str, Any]] = json.loads((DATA / "sampling.json").read_text())

MIX = torch.tensor([[0.6 * np.sin(1.7 * i + 2.3 * j + 0.5) for j in range(4)] for i in range(4)])
Z0 = torch.from_numpy((1.2 * np.sin(0.2 + 1.3 * np.arange(256))).astype(np.float32)).view(1, 4, 8, 8)
ROWS, COLUMNS = np.mgrid[:8, :8]
MASK = ((ROWS + COLUMNS) % 5 < 3).astype(np.float32)


@dataclass(kw_only=True)
class Toy(ToyFamily):
    """The network that A1111 ran: its prompts are numbers. What it decodes is kept."""

    latents: list[Tensor] = field(default_factory=list)

    def encode_prompts(
        self,
        prompts: Sequence[str],
        *,
        options: PromptOptions = DEFAULTS,
        negative: bool = False,
        loras: Patch = NO_PATCH,
    ) -> Steps[list[Encoded]]:
        yield
        return [Encoded(context=torch.tensor([[float(prompt)]])) for prompt in prompts]

    def encode(self, pixels: Tensor, **_: Any) -> Tensor:
        return Z0.expand(len(pixels), -1, -1, -1)

    def predict(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        shift = 0.3 * torch.sin(0.01 * t) + torch.stack(contexts(conditions)).flatten()
        return torch.tanh(torch.einsum("ij,rjhw->rihw", MIX.float(), x) + shift[:, None, None, None])

    def decode(self, latents: Tensor, **given: Any) -> Decoded:
        self.latents += latents
        return super().decode(latents, **given)


@pytest.fixture(scope="module")
def wanted() -> Iterator[Any]:
    with np.load(DATA / "sampling.npz") as arrays:
        yield arrays["latents"]


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{n}-{CASES[n]['sampler_name']}")
def test_a_latent_is_a1111s(number: int, wanted: Any) -> None:
    case = dict(CASES[number])
    masked, prediction = case.pop("masked", False), case.pop("prediction", "epsilon")
    params = Params(**{"width": 64, "height": 64, "subseed": 0, **case})
    family = Toy(prediction=prediction)
    render = Render(
        params=params,
        prompt=params.prompt,
        negative_prompt=params.negative_prompt,
        seed=params.seed,
        subseed=params.subseed,
        pixels=np.zeros((64, 64, 3), np.uint8),
        latent_size=(8, 8),
        mask=MASK if masked else None,
    )
    with Engine(family, slots=1) as engine:
        engine.submit(render).result(60)
    found = family.latents[0][:, ::2, ::2].numpy()
    # whose steps depend on answers, and so on their last digits
    tolerance = 3e-3 if params.sampler_name == "DPM adaptive" else 2e-4
    assert np.abs(found - wanted[number]).max() <= tolerance * max(1, np.abs(wanted[number]).max())


def test_every_sampler_is_among_them_and_every_parameter_that_is_its_own() -> None:
    for name, sampler in SAMPLERS.items():
        cases = [case for case in CASES if case["sampler_name"] == name]
        assert len(cases) >= 3, name
        assert sampler.options <= set().union(*cases), name
