"""The toy model of the engine's tests, which records its calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.engine.render import Render
from img2img_worker.models.adapters.hypernetworks import NO_HYPERNETWORKS, Hypernetworks, HypernetworkSet
from img2img_worker.models.adapters.lora import Loras
from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.checkpoints.noise_schedule import alphas_cumprod
from img2img_worker.models.checkpoints.vae_files import VaeFiles
from img2img_worker.models.control.control_nets import ControlNets
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.family import Prediction
from img2img_worker.models.families.vae import Decoded
from img2img_worker.models.families.vaes import VaeFile, Vaes
from img2img_worker.models.prompts.prompt_options import DEFAULTS, PromptOptions
from img2img_worker.models.prompts.text_encoder import Encoded
from img2img_worker.models.prompts.textual_inversion import TextualInversions
from img2img_worker.models.steps import Steps, without_steps
from img2img_worker.sampling.levels import NoiseLevels

CHANNELS, FACTOR = 4, 8
SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@dataclass(kw_only=True)
class ToyFamily:
    """A `Family` of one convolution, whose output depends on latent, timestep and prompt, row by row.

    A prompt's context has one token for each of its words, at least one.
    """

    name: str = "toy"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    latent_channels: int = CHANNELS
    vae_factor: int = FACTOR
    native_side: int = 512
    side_multiple: int = FACTOR
    prediction: Prediction = "epsilon"
    edits: bool = False
    inpaints: bool = False
    configuration: str | None = "toy"
    distilled: bool = False
    is_compiled: bool = False
    #: whether rows of one call may have contexts of different lengths
    mixes_lengths: bool = True
    inversions: TextualInversions = field(default_factory=TextualInversions)
    loras: Loras = field(default_factory=lambda: Loras(None, nn.Module(), ()))
    hypernetworks: Hypernetworks = field(default_factory=Hypernetworks)
    vaes: Vaes = field(default_factory=lambda: no_vaes())
    controls: ControlNets = field(default_factory=lambda: ControlNets((), no_network, (), no_network))
    noise_levels: NoiseLevels = field(
        default_factory=lambda: NoiseLevels.from_alphas_cumprod(alphas_cumprod(SCHEDULE))
    )
    #: called with the inputs of each model call, before it runs
    before: Callable[[Tensor, Tensor, Conditions], object] = lambda *_: None
    #: the inputs of all calls
    rows: list[int] = field(default_factory=list)
    timesteps: list[list[float]] = field(default_factory=list)
    #: number of steps in which the VAE encodes and decodes, and of those that were done
    vae_steps: int = 1
    encode_steps_done: int = 0
    decode_steps_done: int = 0
    #: batch sizes of the VAE's and the texts of the text encoder's calls
    encoded: list[int] = field(default_factory=list)
    decoded: list[int] = field(default_factory=list)
    texts: list[tuple[str, ...]] = field(default_factory=list)

    def levels(self, latent_size: tuple[int, int]) -> NoiseLevels:
        return self.noise_levels

    def encode_prompts(
        self,
        prompts: Sequence[str],
        *,
        options: PromptOptions = DEFAULTS,
        negative: bool = False,
        loras: Patch = NO_PATCH,
    ) -> Steps[list[Encoded]]:
        self.texts.append(tuple(prompts))
        encoded = []
        for prompt in prompts:
            encoded.append(Encoded(context=_context(prompt, options.clip_skip)))
            yield
        return encoded

    def context_length(self, prompts: Sequence[str], options: PromptOptions) -> int:
        return max(len(_context(prompt, options.clip_skip)) for prompt in prompts)

    def picture(
        self,
        pixels: Tensor,
        masks: Tensor | None,
        *,
        mask_round: bool = True,
        mask_weight: float = 1.0,
        tiling: bool = False,
        rows: int | None = None,
        vae: VaeFile | None = None,
    ) -> Steps[Tensor | None]:
        return without_steps(None)

    def condition(
        self,
        text: Encoded,
        params: Params,
        *,
        picture: Tensor | None = None,
        patch: Patch = NO_PATCH,
        hypernetworks: HypernetworkSet = NO_HYPERNETWORKS,
    ) -> Condition:
        length = None if self.mixes_lengths else len(text.context)
        return Condition(tensors={"context": text.context}, patch=patch, shares=(patch, length))

    def encode(
        self, pixels: Tensor, *, tiling: bool = False, rows: int | None = None, vae: VaeFile | None = None
    ) -> Tensor:
        return _in_rows(self._encode, pixels.permute(0, 3, 1, 2).float() / 127.5 - 1, rows)

    def encode_steps(self, pixels: Tensor, **more: Any) -> Steps[Tensor]:
        for _ in range(self.vae_steps):
            self.encode_steps_done += 1
            yield
        return self.encode(pixels, **more)

    def free_memory(self) -> None:
        """It has nothing to free."""

    def predict(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        self.rows.append(len(x))
        self.timesteps.append(t.tolist())
        self.before(x, t, conditions)
        weight = torch.linspace(-0.3, 0.4, CHANNELS * CHANNELS * 9).view(CHANNELS, CHANNELS, 3, 3)
        shift = torch.stack([context.mean() for context in contexts(conditions)]) + t / 1000
        return torch.tanh(F.conv2d(x, weight, padding=1) + shift[:, None, None, None])

    def decode(
        self,
        latents: Tensor,
        *,
        tiling: bool = False,
        rows: int | None = None,
        vae: VaeFile | None = None,
        full_precision: bool = False,
    ) -> Decoded:
        image = _in_rows(self._decode, latents, rows)
        pixels = ((image / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1)
        return Decoded(pixels=pixels, answers=image, is_finite=image.isfinite().flatten(1).all(1))

    def decode_steps(self, latents: Tensor, **more: Any) -> Steps[Decoded]:
        for _ in range(self.vae_steps):
            self.decode_steps_done += 1
            yield
        return self.decode(latents, **more)

    def _encode(self, image: Tensor) -> Tensor:
        self.encoded.append(len(image))
        small = F.avg_pool2d(image, FACTOR)
        return torch.cat([small, small.mean(1, keepdim=True)], 1)

    def _decode(self, latents: Tensor) -> Tensor:
        self.decoded.append(len(latents))
        return F.interpolate(latents[:, :3], scale_factor=FACTOR)


def no_network(path: Path, _key: str) -> NoReturn:
    """The control networks of a family that has none."""
    raise Refused("control.model", path.stem, "a toy has none")


def no_vaes() -> Vaes:
    """The VAEs of a family that has only the loaded one."""

    def read(file: VaeFile) -> NoReturn:
        raise AssertionError(file)

    return Vaes(VaeFiles(), tiny="taesd", read=read)


def contexts(conditions: Conditions) -> list[Tensor]:
    """The contexts of the rows, [n_tokens, d] each."""
    rows: list[Tensor] = []
    for run in conditions.runs:
        is_whole = len(run.context) == len(conditions)
        rows += run.context[run.rows] if is_whole else run.context
    return rows


def _in_rows(network: Callable[[Tensor], Tensor], batch: Tensor, rows: int | None) -> Tensor:
    return torch.cat([network(piece) for piece in torch.split(batch, rows or len(batch))])


def _context(prompt: str, clip_skip: int) -> Tensor:
    words = prompt.split() or [""]
    return torch.tensor([[len(word) / 10 + clip_skip, sum(map(ord, word)) / 1000] for word in words])


@dataclass
class TilingFamily(ToyFamily):
    """A family that records for each picture whether it was to tile."""

    tiled: list[bool] = field(default_factory=list)

    def decode(self, latents: Tensor, *, tiling: bool = False, **more: Any) -> Decoded:
        self.tiled.append(tiling)
        return super().decode(latents, tiling=tiling, **more)


def render(
    number: int = 0,
    *,
    prompt: str = "cat",
    negative_prompt: str = "dog",
    mask: np.ndarray[tuple[int, int], np.dtype[np.float32]] | None = None,
    width: int = 64,
    height: int = 64,
    **params: object,
) -> Render:
    """A render of random pixels; `number` is the seed of both."""
    return Render(
        params=Params.model_validate({"width": width, "height": height, **params}),
        prompt=prompt,
        negative_prompt=negative_prompt,
        seed=number,
        subseed=0,
        pixels=np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8),
        latent_size=(height // FACTOR, width // FACTOR),
        mask=mask,
    )


def without_calls(each: Render) -> Render:
    """`each`, only encoded and decoded."""
    return replace(each, params=each.params.model_copy(update={"steps": 0}))
