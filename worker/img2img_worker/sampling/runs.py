"""Which sigmas an image visits: by its schedule, its strength, and samplers with timesteps of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Self

import numpy as np

from img2img_shared.errors import Refused
from img2img_shared.names import SAMPLERS
from img2img_shared.params import Params
from img2img_worker.sampling.levels import Array, NoiseLevels
from img2img_worker.sampling.schedules import sigmas

#: longest schedule computed; beyond it, `fix_steps` with a tiny strength is refused
T_MAX = 100_000


@dataclass(frozen=True, kw_only=True)
class PlanKey:
    """All of a render's parameters that its plan depends on."""

    sampler_name: str
    scheduler: str
    steps: int
    denoising_strength: float
    fix_steps: bool = False
    initial_noise_multiplier: float = 1.0
    extra_noise: float = 0.0
    #: None: the sampler's own
    eta: float | None = None
    s_churn: float = 0.0
    s_tmin: float = 0.0
    #: None or 0: no upper end
    s_tmax: float | None = None
    s_noise: float = 1.0

    @classmethod
    def of(cls, params: Params) -> Self:
        return cls(**{name: getattr(params, name) for name in cls.__dataclass_fields__})

    @property
    def options(self) -> dict[str, float]:
        """Keyword arguments for the sampler: those of its options that are set."""
        values = {
            "eta": self.eta,
            "s_churn": self.s_churn,
            "s_tmin": self.s_tmin,
            "s_tmax": self.s_tmax or inf,
            "s_noise": self.s_noise,
        }
        taken = SAMPLERS[self.sampler_name].options
        return {name: value for name, value in values.items() if name in taken and value is not None}

    @property
    def steps_and_start(self) -> tuple[int, int]:
        """(T, t_start): the schedule's length, and how many of its steps follow the first one that is run.

        Source: A1111's ``setup_img2img_steps``. Strength 0 runs nothing and never comes here.
        """
        strength = min(self.denoising_strength, 0.999)
        if self.fix_steps:
            return int(min(self.steps / strength, T_MAX + 1)), self.steps - 1
        return self.steps, int(strength * self.steps)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The sigmas that one image visits."""

    #: [M + 1] descending
    sigmas: Array
    #: lowest sigma above 0 and highest of the whole schedule, of which this run is the end
    span: tuple[float, float]


#: (key, levels) -> the run; raises `Refused` for a start that the schedule does not have
Path = Callable[[PlanKey, NoiseLevels], Run]


def scheduled_path(key: PlanKey, levels: NoiseLevels) -> Run:
    """The end of the schedule that the parameters name."""
    steps, start = key.steps_and_start
    if steps > T_MAX:
        raise _too_long(key, T_MAX)
    sampler = SAMPLERS[key.sampler_name]
    scheduler = sampler.scheduler if key.scheduler == "Automatic" else key.scheduler
    whole = sigmas(scheduler, steps + sampler.drops_penultimate, levels)
    if sampler.drops_penultimate:
        whole = np.delete(whole, -2)
    run = whole[steps - start - 1 :]
    if len(run) < 2:  # the DDIM schedule has no more sigmas than the model has levels
        raise _too_long(key, len(levels.sigmas))
    return Run(sigmas=run, span=(float(whole[whole > 0].min()), float(whole.max())))


def ddim_path(key: PlanKey, levels: NoiseLevels) -> Run:
    """Whole timesteps, from the start down to the second level, then to the first."""
    timesteps = _ddim_timesteps(key, levels)
    descending = levels.sigmas[np.append(timesteps[::-1], 0)]
    return Run(sigmas=descending, span=(descending[-1], descending[0]))


def uni_pc_path(key: PlanKey, levels: NoiseLevels) -> Run:
    """Timesteps evenly from DDIM's start to the first level, fractions allowed: "time_uniform".

    A1111's own start is one of DDIM's strides lower than the noise it has added, and one step shorter; here
    both are at DDIM's start.
    """
    timesteps = _ddim_timesteps(key, levels)
    even = levels.exploding(levels.scheduled.t_to_sigma(np.linspace(timesteps[-1], 0, len(timesteps) + 1)))
    return Run(sigmas=even, span=(even[-1], even[0]))


def _ddim_timesteps(key: PlanKey, levels: NoiseLevels) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """[t_start + 1] ascending, the last one is where the run starts."""
    total = len(levels.sigmas)
    steps, start = key.steps_and_start
    if steps > total:
        raise _too_long(key, total)
    return np.clip(np.arange(0, total, total // steps) + 1, 0, total - 1)[: start + 1]


def _too_long(key: PlanKey, limit: int) -> Refused:
    return Refused(
        "steps, denoising_strength, fix_steps",
        (key.steps, key.denoising_strength, key.fix_steps),
        f"steps / denoising_strength up to {limit:,} for {key.sampler_name!r}, schedule {key.scheduler!r}",
    )
