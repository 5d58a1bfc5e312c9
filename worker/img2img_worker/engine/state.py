"""One render on its way: what its model calls need, and how far it is."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from img2img_worker.engine.render import Render
from img2img_worker.models.families.family import Family, GuidanceRow, Prediction
from img2img_worker.models.prompts.conditioning import Conditioning, conditioning
from img2img_worker.sampling.noise import noises
from img2img_worker.sampling.plan import Plan, PlanKey, compile_plan

Pixels = NDArray[np.uint8]
#: (model calls done, model calls in all)
OnStep = Callable[[int, int], None]
#: latent height and width
Group = tuple[int, int]

#: where an image's history has the latent of its last model call and z0, and where its noises begin
X, Z0, NOISES = range(3)


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """What one model call of an image needs."""

    #: the timestep, and the numbers with which ``denoised = skip·x + seen·(what the model saw) + out·answer``
    timestep: float
    skip: float
    seen: float
    out: float
    #: [n] entries of the history, and [n] how much of each is in x, as the model sees it
    places: NDArray[np.int64]
    weights: NDArray[np.float32]


class RenderState:
    """A render, its plan, its noises, and the state of its sampling.

    Made in the thread that submits, so that compiling, drawing noise and reading LoRAs cost the engine's
    thread nothing.
    """

    def __init__(self, render: Render, family: Family, on_step: OnStep | None = None) -> None:
        self.render = render
        self.future: Future[Pixels] = Future()
        self.on_step = on_step
        self.plan = compile_plan(PlanKey.of(render.params), family.levels(render.latent_size))
        self.calls = calls(self.plan, family.prediction)
        self.prompts = _prompts(render)
        self.loras = family.loras.find(self.prompts.loras)
        self.noises = _noises(self.plan, render, family)
        #: what its init image's latent depends on
        self.digest = (_digest(render.pixels), render.params.tiling)
        #: model calls done
        self.call = 0
        #: its place in its group's tensors; None: not in flight
        self.slot: int | None = None
        #: the last call's x, z0, noises, answers so far, float32 [n, C, h, w]; None while they lie in a batch
        self.history: Tensor | None = None
        #: the device ran out of memory with nothing else in flight
        self.was_short = False
        #: it has had its error
        self.failed = False
        #: its picture is wanted after the next model call, as it is by then
        self.ends_early = False
        #: rows of each model call
        self.branches: Sequence[tuple[GuidanceRow, ...]] = ()

    @property
    def depth(self) -> int:
        """How long its history gets."""
        return Z0 + len(self.plan.result)

    @property
    def filled(self) -> int:
        """How long its history is by now."""
        return NOISES + self.plan.n_noises + self.call

    @property
    def finished(self) -> bool:
        """Whether no model call is left, or none is wanted any more."""
        return self.call == len(self.calls) or (self.ends_early and self.call > 0)

    @property
    def group(self) -> Group:
        """What images must have in common to take their steps together."""
        return self.render.latent_size


def calls(plan: Plan, prediction: Prediction) -> list[Call]:
    """The model calls of a plan."""
    scale, none = plan.scale_in, np.zeros(len(plan.sigmas))
    if prediction == "epsilon":
        skip, seen, out = 1 / scale, none, -plan.sigmas
    elif plan.velocity_sigmas is None:
        skip, seen, out = scale, none, -plan.sigmas * scale
    else:  # epsilon first, by its own level: cos·answer + sin·seen
        cos = 1 / np.sqrt(plan.velocity_sigmas**2 + 1)
        skip, seen, out = 1 / scale, -plan.sigmas * plan.velocity_sigmas * cos, -plan.sigmas * cos
    return [
        Call(
            timestep=float(plan.timesteps[k]),
            skip=float(skip[k]),
            seen=float(seen[k]),
            out=float(out[k]),
            # what is kept of the call before is what the model saw, scaled for that call
            places=np.append(Z0 + terms.places, X) if terms.before else Z0 + terms.places,
            weights=np.append(
                terms.weights * scale[k], [terms.before * scale[k] / scale[k - 1]] if terms.before else []
            ).astype(np.float32),
        )
        for k, terms in enumerate(plan.terms)
    ]


def _prompts(render: Render) -> Conditioning:
    return conditioning(render.prompt, render.negative_prompt, render.params)


def _digest(pixels: Pixels) -> bytes:
    return blake2b(pixels.tobytes(), digest_size=16, salt=str(pixels.shape).encode()[:16]).digest()


def _noises(plan: Plan, render: Render, family: Family) -> Tensor:
    """float32 [K, C, h, w] on the CPU."""
    shape = (family.latent_channels, *render.latent_size)
    params, seeds = render.params, (render.seed, render.subseed)
    drawn = torch.empty(plan.n_noises, *shape)
    for place, noise in zip(drawn, noises(plan, params, *seeds, shape), strict=True):
        place.copy_(noise)
    return drawn
