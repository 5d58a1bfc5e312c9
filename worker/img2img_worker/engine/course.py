"""The model calls of one image, decided one after another."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from img2img_worker.models.families.family import Prediction
from img2img_worker.models.transfer import to_device
from img2img_worker.sampling.levels import Array, NoiseLevels
from img2img_worker.sampling.live import LivePlan
from img2img_worker.sampling.noise import NoiseStream
from img2img_worker.sampling.plan import Plan
from img2img_worker.sampling.vectors import LiveSteps

#: where an image's history has what the model sees of its latent at the call under way, and z0; what else is
#: in it is the course's affair
X, Z0, REST = range(3)


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One model call of an image."""

    #: counted from 0
    number: int
    #: noise level, and what the model is told of it
    sigma: float
    timestep: float
    #: the numbers with which ``denoised = skip·x + seen·(what the model saw) + out·answer``
    skip: float
    seen: float
    out: float
    #: [n] entries of the history, and [n] how much of each is in x, as the model sees it
    places: NDArray[np.int64]
    weights: NDArray[np.float32]
    #: what the guidance's scale is multiplied by
    guidance: float = 1.0


class Course(Protocol):
    """Decides an image's model calls, and where in its history their answers go."""

    @property
    def call(self) -> Call | None:
        """The next one; None: its last latent is there."""

    @property
    def done(self) -> int:
        """Model calls that are answered."""

    @property
    def total(self) -> int:
        """Model calls in all, as far as can be told."""

    @property
    def depth(self) -> int:
        """How many entries its history has."""

    @property
    def answer(self) -> int:
        """The entry where the next call's answer goes."""

    @property
    def latest(self) -> int:
        """The entry that is nearest to the picture so far."""

    @property
    def result(self) -> NDArray[np.float32]:
        """[depth - Z0] how much of each entry from z0 on is in the last latent."""

    @property
    def blends_input(self) -> bool:
        """Whether what a mask keeps is laid into what the model sees, and not into its answers."""

    def read_by(self, prediction: Prediction, levels: NoiseLevels) -> None:
        """Calls that are not answered yet are another checkpoint's.

        Args:
            levels: its noise levels, as the sampler sees them.
        """

    def begin(self, z0: Tensor) -> Tensor:
        """What the history has at the start behind `z0`, float32 [n, C, h, w]."""

    def advance(self, history: Tensor) -> None:
        """The answer of the call is there, and the next one is decided.

        Args:
            history: all of it, float32 [depth, C, h, w].
        """


class PlannedCourse:
    """The calls of a plan; behind z0 the history has its noises, then the answers so far."""

    blends_input: bool

    def __init__(self, plan: Plan, prediction: Prediction, noises: Tensor) -> None:
        self._plan = plan
        self._calls = _calls(plan, prediction)
        self._noises = noises
        self._first = REST + len(noises)
        self.done = 0
        self.total = len(self._calls)
        self.depth = Z0 + len(plan.result)
        self.result = plan.result.astype(np.float32)
        self.blends_input = plan.blends_input

    @property
    def call(self) -> Call | None:
        return self._calls[self.done] if self.done < self.total else None

    @property
    def answer(self) -> int:
        return self._first + self.done

    @property
    def latest(self) -> int:
        return self.answer - 1 if self.done else Z0

    def read_by(self, prediction: Prediction, levels: NoiseLevels) -> None:
        self._calls = _calls(self._plan.told_by(levels), prediction)

    def begin(self, z0: Tensor) -> Tensor:
        return to_device(self._noises, z0.device)

    def advance(self, history: Tensor) -> None:  # noqa: ARG002 (a plan does not depend on answers)
        self.done += 1


class LiveCourse:
    """The calls of a sampler that looks at the answers; behind z0 the history has its x and the last one."""

    _INPUT, _ANSWER = REST, REST + 1

    depth = REST + 2
    answer = _ANSWER
    result = np.array([0, 1, 0], np.float32)
    blends_input = False

    def __init__(self, plan: LivePlan, prediction: Prediction, noises: NoiseStream) -> None:
        self._plan, self._prediction, self._noises = plan, prediction, noises
        self._levels = plan.levels
        self._steps: LiveSteps
        self.done = 0
        self.call: Call | None = None

    @property
    def total(self) -> int:
        return self.done if self.call is None else max(self._plan.expected, self.done + 1)

    @property
    def latest(self) -> int:
        return self._ANSWER if self.done else Z0

    def read_by(self, prediction: Prediction, levels: NoiseLevels) -> None:
        self._prediction, self._levels = prediction, levels
        if self.call is not None:
            self.call = self._call(self.call.sigma)

    def begin(self, z0: Tensor) -> Tensor:
        def noise(_sigma: float = 0, _sigma_next: float = 0) -> Tensor:
            return to_device(self._noises.next(), z0.device)

        share, noise_share = self._plan.first
        self._steps = self._plan.sampler(share * z0 + noise_share * noise(), noise)
        x, sigma = next(self._steps)
        self.call = self._call(sigma)
        return torch.stack([x, torch.zeros_like(x)])

    def advance(self, history: Tensor) -> None:
        self.done += 1
        try:
            # a copy: the sampler may look at it later
            x, sigma = self._steps.send(history[self._ANSWER].clone())
            self.call = self._call(sigma)
        except StopIteration as end:
            x, self.call = end.value, None
        except torch.OutOfMemoryError:  # a generator that has raised does not go on
            raise MemoryError("no room for a sampler's step beside what is in flight") from None
        history[self._INPUT] = x

    def _call(self, sigma: float) -> Call:
        scale = 1 / np.sqrt(sigma**2 + 1)
        skip, seen, out = _reading(np.array(sigma), self._prediction, None)
        return Call(
            number=self.done,
            sigma=sigma,
            timestep=self._levels.sigma_to_t(sigma),
            skip=float(skip),
            seen=float(seen),
            out=float(out),
            places=np.array([self._INPUT]),
            weights=np.array([scale], np.float32),
        )


@lru_cache(maxsize=128)
def _calls(plan: Plan, prediction: Prediction) -> tuple[Call, ...]:
    """The model calls of a plan."""
    scale = plan.scale_in
    skip, seen, out = _reading(plan.sigmas, prediction, plan.velocity_sigmas)
    return tuple(
        Call(
            number=k,
            sigma=float(plan.sigmas[k]),
            timestep=float(plan.timesteps[k]),
            skip=float(skip[k]),
            seen=float(seen[k]),
            out=float(out[k]),
            guidance=float(plan.guidance[k]),
            # what is kept of the call before is what the model saw, scaled for that call
            places=np.append(Z0 + terms.places, X) if terms.before else Z0 + terms.places,
            weights=np.append(
                terms.weights * scale[k], [terms.before * scale[k] / scale[k - 1]] if terms.before else []
            ).astype(np.float32),
        )
        for k, terms in enumerate(plan.terms)
    )


def _reading(
    sigmas: Array, prediction: Prediction, velocity_sigmas: Array | None
) -> tuple[Array, Array, Array]:
    """(skip, seen, out) of model calls at `sigmas`, as `Call` has them."""
    scale, none = 1 / np.sqrt(sigmas**2 + 1), np.zeros_like(sigmas)
    if prediction == "epsilon":
        return 1 / scale, none, -sigmas
    if velocity_sigmas is None:
        return scale, none, -sigmas * scale
    # epsilon first, by its own level: cos·answer + sin·seen
    cos = 1 / np.sqrt(velocity_sigmas**2 + 1)
    return 1 / scale, -sigmas * velocity_sigmas * cos, -sigmas * cos
