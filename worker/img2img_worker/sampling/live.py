"""Plans of adaptive samplers, whose steps depend on the model's answers, so that no table can be compiled.

Such a sampler is a generator: it yields a latent and its sigma where others call the model, is sent the
answer, and returns the last latent. Its model calls are shared with other images all the same.
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
    """An adaptive sampler's run for one image."""

    #: (first x, noise) to its steps
    sampler: Callable[[Tensor, LiveNoise], LiveSteps]
    #: coefficients of z0 and of the first noise in the first x
    first: tuple[float, float]
    #: the model's, from which its timesteps follow
    levels: NoiseLevels
    #: an estimate of its model calls, for progress
    expected: int
    #: the sigma that it ends at
    last_sigma: float


def plan_of(key: PlanKey, levels: NoiseLevels) -> Plan | LivePlan:
    """The plan that the engine executes for a render.

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
