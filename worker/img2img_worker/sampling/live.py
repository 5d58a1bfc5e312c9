"""Samplers whose steps depend on the model's answers, of which no table can be made.

Such a sampler is a generator: it yields a latent and its sigma where others call the model, is sent the
answer, and returns the last latent. Its calls join those of all other images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from img2img_shared.samplers import SAMPLERS
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.plan import Plan, compile_plan, levels_of
from img2img_worker.sampling.plan_key import PlanKey
from img2img_worker.sampling.runs import run_of
from img2img_worker.sampling.sampler_functions import adaptive_solver
from img2img_worker.sampling.vectors import LiveNoise, LiveSteps


@dataclass(frozen=True, kw_only=True, eq=False)
class LivePlan:
    """What such a sampler runs on for one image."""

    #: (first x, noise) to its steps
    sampler: Callable[[Tensor, LiveNoise], LiveSteps]
    #: how much of z0 and of the first noise the first x has
    first: tuple[float, float]
    #: the model's, by which it is told a timestep
    levels: NoiseLevels
    #: model calls that it may take, for those who watch
    expected: int
    #: the sigma that it ends at
    last_sigma: float


def plan_of(key: PlanKey, levels: NoiseLevels) -> Plan | LivePlan:
    """What the engine runs for a render.

    Raises:
        Refused: as `compile_plan`.
    """
    if not SAMPLERS[key.sampler_name].adaptive or key.steps == 0:
        return compile_plan(key, levels)
    seen = levels_of(key, levels)
    run = run_of(key, seen)
    if not len(run.sigmas):
        return compile_plan(key, levels)
    return LivePlan(
        sampler=partial(adaptive_solver(key.sampler_name), sigmas=run.sigmas, **key.options),
        first=run.first,
        levels=seen,
        expected=3 * key.steps,
        last_sigma=float(run.sigmas[-1]),
    )
