"""The course of one image: its model calls, which are decided one after the other."""

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

#: entries of an image's history: the latent of the call under way as the model sees it, z0, and whatever else
#: the course keeps there
X, Z0, REST = range(3)


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One model call of an image."""

    #: counted from 0
    number: int
    #: the noise level
    sigma: float
    #: the noise level as the model takes it
    timestep: float
    #: coefficients of ``denoised = skip·x + seen·(what the model saw) + out·answer``
    skip: float
    seen: float
    out: float
    #: [n] entries of the history that add up to x, as the model sees it
    places: NDArray[np.int64]
    #: [n] their weights
    weights: NDArray[np.float32]
    #: factor of the guidance's scale
    guidance: float = 1.0


class Course(Protocol):
    """Decides an image's model calls, and to which entries of its history their answers go."""

    @property
    def call(self) -> Call | None:
        """The next call; None: the last latent is there."""

    @property
    def done(self) -> int:
        """How many model calls are answered."""

    @property
    def total(self) -> int:
        """How many model calls there are in all; for an adaptive sampler, an estimate."""

    @property
    def depth(self) -> int:
        """The number of entries of the history."""

    @property
    def answer(self) -> int:
        """The entry for the next call's answer."""

    @property
    def latest(self) -> int:
        """The entry that is closest to the final latent so far."""

    @property
    def result(self) -> NDArray[np.float32]:
        """The weights of the entries from z0 on in the last latent, [depth - Z0]."""

    @property
    def blends_input(self) -> bool:
        """Whether a mask is blended into what the model sees, and not into its answers."""

    def read_by(self, prediction: Prediction, levels: NoiseLevels) -> None:
        """Have another checkpoint make the calls that are not answered yet.

        Args:
            levels: its noise levels, as the sampler sees them.
        """

    def begin(self, z0: Tensor) -> Tensor:
        """The entries behind `z0` that the history has from the start, float32 [n, C, h, w]."""

    def advance(self, history: Tensor) -> None:
        """Decide the next call, once the answer of the last one is in the history.

        Args:
            history: float32 [depth, C, h, w].
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
        self._calls = _calls(self._plan.for_levels(levels), prediction)

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
