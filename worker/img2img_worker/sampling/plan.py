"""A sampler's steps for one image, as a table of coefficients.

Every sampler here is linear in the first latent, the noises and the model's answers. So it is run once, in
float64, on vectors of coefficients in place of latents: the vectors that it gives to the model, and the one
that it returns, are the table's rows. Executing a plan needs no sampler: each model call's latent is a sum
over the history [z0, noises, answers], which `terms` shortens.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt

from img2img_shared.errors import Refused
from img2img_shared.samplers import SAMPLERS
from img2img_worker.sampling.levels import Array, NoiseLevels
from img2img_worker.sampling.plan_key import PlanKey
from img2img_worker.sampling.runs import run_of
from img2img_worker.sampling.sampler_functions import solver
from img2img_worker.sampling.terms import Terms, terms
from img2img_worker.sampling.vectors import Vector


@dataclass(frozen=True, kw_only=True)
class Draw:
    """An independent standard normal noise."""

    #: number of draws of the image's stream before it; 0: the starting noise
    position: int


@dataclass(frozen=True, kw_only=True)
class Increment:
    """A Brownian path's increment between two sigmas, scaled to variance 1."""

    sigma: float
    sigma_next: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """M model calls over K noises; D = 1 + K + M history entries [z0, n_0..n_{K-1}, a_0..a_{M-1}].

    The answers a are denoised latents, after guidance and mask blending.
    """

    #: [M] noise level of each model call
    sigmas: Array
    #: [M] the model's timestep for each call, which may be a fraction
    timesteps: npt.NDArray[np.float32]
    #: [M, D] coefficients of each call's latent, variance-exploding; in row i, 0 for answers from i on
    inputs: Array
    #: [D] coefficients of the last latent
    result: Array
    #: [M] factor of the latent as the model's input
    scale_in: Array
    #: [M] factor of the guidance scale
    guidance: Array
    #: [K] the noises that have an effect, in the order of their first use
    noises: tuple[Draw | Increment, ...]
    #: lowest and highest sigma that the Brownian path covers
    span: tuple[float, float]
    #: [M] the sigmas by which a velocity is converted to a denoised latent; None: `sigmas`
    velocity_sigmas: Array | None = None
    #: whether the part that a mask keeps is put into the model's inputs, without noise, not into its answers
    blends_input: bool = False

    @property
    def n_noises(self) -> int:
        return len(self.noises)

    def for_levels(self, levels: NoiseLevels) -> Self:
        """The same steps for a checkpoint with other noise levels; whole timesteps stay as they are."""
        if self.blends_input:
            return self
        timesteps = np.array([levels.sigma_to_t(sigma) for sigma in self.sigmas], dtype=np.float32)
        return replace(self, timesteps=timesteps)

    @cached_property
    def terms(self) -> tuple[Terms, ...]:
        """[M] `inputs`, each row in terms of the one before."""
        return terms(self.inputs)


def levels_of(key: PlanKey, levels: NoiseLevels) -> NoiseLevels:
    """A model's noise levels as a render's sampler uses them.

    Raises:
        Refused: the sampler needs whole timesteps, and the levels are a continuum; or a level has no sigma.
    """
    sampler = SAMPLERS[key.sampler_name]
    if not levels.has_whole_timesteps and (sampler.timesteps or sampler.original_timesteps is not None):
        reason = (
            "this checkpoint was trained on a continuum of noise, without timesteps; choose another sampler"
        )
        raise Refused("sampler_name", key.sampler_name, reason)
    # A1111 creates img2img's k-diffusion samplers before it applies these options
    if sampler.timesteps or key.txt2img or key.second_pass:
        if key.use_downcasted_alpha_bar:
            levels = levels.halved
        if key.sd_noise_schedule == "Zero Terminal SNR":
            levels = levels.zero_terminal_snr
    if sampler.timesteps or sampler.original_timesteps is not None:  # which begin with the alphas
        levels = levels.in_single_precision
    elif key.enable_quantization:
        levels = levels.quantized
    if sampler.original_timesteps is not None:
        levels = levels.every(len(levels.sigmas) // sampler.original_timesteps)
    if np.isinf(levels.sigmas[-1]):
        reason = "Zero Terminal SNR's last level has no sigma in half precision; leave one of the two out"
        raise Refused("use_downcasted_alpha_bar", key.use_downcasted_alpha_bar, reason)
    return levels


@lru_cache(maxsize=128)
def compile_plan(key: PlanKey, levels: NoiseLevels) -> Plan:
    """The plan of a render whose sampler is not adaptive; with 0 steps its result is z0.

    Raises:
        Refused: steps, strength and schedule do not go together.
    """
    if key.steps == 0:
        none = np.zeros(0)
        return Plan(
            sigmas=none,
            timesteps=none.astype(np.float32),
            inputs=np.zeros((0, 1)),
            result=np.ones(1),
            scale_in=none,
            guidance=none,
            noises=(),
            span=(0.0, 0.0),
        )
    sampler = SAMPLERS[key.sampler_name]
    levels = levels_of(key, levels)
    run = run_of(key, levels)
    if sampler.run == "uni_pc":
        levels = levels.log_alpha()
    recorder = _Recorder(brownian=sampler.brownian_noise, capacity=4 * len(run.sigmas) + 2)
    z0, noise = run.first
    x = z0 * recorder.z0 + noise * recorder.draw()
    try:
        with np.errstate(divide="raise", invalid="raise", over="raise"):
            if len(run.sigmas) > 1:
                x = solver(key.sampler_name)(recorder.model, x, run.sigmas, recorder.noise, **key.options)
    except (ArithmeticError, ValueError, np.linalg.LinAlgError):
        # two sigmas are the same, or an eta is too large for DDIM
        raise Refused(
            "sampler_name, scheduler, steps, eta",
            (key.sampler_name, key.scheduler, key.steps, key.eta),
            "sigmas are equal, or eta is too large; use fewer steps, more strength, or eta up to 1",
        ) from None
    plan = recorder.plan(x * run.scale_out, run.span, levels)
    if sampler.timesteps:  # A1111 converts a velocity by whole timesteps
        whole = levels.sigmas[plan.timesteps.astype(int)]
        return replace(plan, blends_input=True, velocity_sigmas=whole)
    if sampler.original_timesteps is not None:  # A1111's LCM takes every answer as noise, as at sigma 0
        return replace(plan, velocity_sigmas=np.zeros_like(plan.sigmas))
    return plan


class _Recorder:
    """The model and the noise of a sampler that is run on coefficients.

    Each noise and answer gets the next place in the vectors; `plan` sorts the places.
    """

    def __init__(self, *, brownian: bool, capacity: int) -> None:
        self._brownian = brownian
        self._capacity = capacity
        self._places = 0
        self.z0 = self._unit()
        self._noises: list[tuple[int, Draw | Increment]] = []
        self._calls: list[tuple[Vector, float, float]] = []
        self._answers: list[int] = []

    def draw(self) -> Vector:
        return self._new_noise(Draw(position=len(self._noises)))

    def noise(self, sigma: float, sigma_next: float) -> Vector:
        if self._brownian:
            return self._new_noise(Increment(sigma=float(sigma), sigma_next=float(sigma_next)))
        return self.draw()

    def model(self, x: Vector, sigma: float, /, *, guidance: float = 1.0) -> Vector:
        self._calls.append((x, float(sigma), guidance))
        self._answers.append(self._places)
        return self._unit()

    def _new_noise(self, request: Draw | Increment) -> Vector:
        self._noises.append((self._places, request))
        return self._unit()

    def _unit(self) -> Vector:
        vector = np.zeros(self._capacity)
        vector[self._places] = 1
        self._places += 1
        return vector

    def plan(self, last: Vector, span: tuple[float, float], levels: NoiseLevels) -> Plan:
        rows = np.array([x for x, _, _ in self._calls] + [last])
        used = [(place, request) for place, request in self._noises if rows[:, place].any()]
        rows = rows[:, [0, *(place for place, _ in used), *self._answers]]
        sigmas = np.array([sigma for _, sigma, _ in self._calls])
        return Plan(
            sigmas=sigmas,
            timesteps=np.array([levels.sigma_to_t(sigma) for sigma in sigmas], dtype=np.float32),
            inputs=rows[:-1],
            result=rows[-1],
            scale_in=1 / np.sqrt(sigmas**2 + 1),
            guidance=np.array([guidance for _, _, guidance in self._calls]),
            noises=tuple(request for _, request in used),
            span=span,
        )
