"""All samplers, by AUTOMATIC1111's names.

To add a sampler write one function in `ode` or `sde`, `(model, x, sigmas, noise, *, options) -> x`, in its
paper's terms, and give it one line in `SAMPLERS` below and one in `img2img_shared.names.SAMPLERS`, where a
producer, who has no numpy, finds its default schedule, its options and its aliases. That is all: a plan is
compiled by running it (`plan`), and the engine runs plans.

A sampler must be linear in latent, noise and answers, and choose its steps by the sigmas alone: one that
looks at the latent (DPM adaptive) has no plan.
"""

from collections.abc import Callable
from dataclasses import dataclass

from img2img_worker.sampling import ode, sde
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.runs import Path, ddim_path, scheduled_path, uni_pc_path
from img2img_worker.sampling.vectors import Vector


@dataclass(frozen=True, kw_only=True)
class Solver:
    """How a sampler is run."""

    #: `(model, x, sigmas, noise, *, options) -> x`
    function: Callable[..., Vector]
    #: the sigmas it visits
    path: Path = scheduled_path
    #: its noises are increments of one Brownian path, else independent draws
    brownian: bool = False
    #: its result is the variance-preserving latent at its last sigma
    preserves_variance: bool = False
    #: the model's levels as it sees them
    view: Callable[[NoiseLevels], NoiseLevels] = lambda levels: levels


#: a latent consistency model is distilled on 50 of the 1000 levels
LCM_STRIDE = 20

SAMPLERS: dict[str, Solver] = {
    "Euler": Solver(function=ode.euler),
    "Euler a": Solver(function=sde.euler_ancestral),
    "LMS": Solver(function=ode.lms),
    "Heun": Solver(function=ode.heun),
    "DDIM": Solver(function=sde.ddim, path=ddim_path, preserves_variance=True),
    "UniPC": Solver(
        function=ode.uni_pc, path=uni_pc_path, preserves_variance=True, view=NoiseLevels.log_alpha
    ),
    "DPM++ 2M": Solver(function=ode.dpmpp_2m),
    "DPM++ SDE": Solver(function=sde.dpmpp_sde, brownian=True),
    "DPM++ 2S a": Solver(function=sde.dpmpp_2s_ancestral),
    "DPM++ 2M SDE": Solver(function=sde.dpmpp_2m_sde, brownian=True),
    "DPM++ 2M SDE Heun": Solver(function=sde.dpmpp_2m_sde_heun, brownian=True),
    "DPM++ 3M SDE": Solver(function=sde.dpmpp_3m_sde, brownian=True),
    "DPM2": Solver(function=ode.dpm_2),
    "DPM2 a": Solver(function=sde.dpm_2_ancestral),
    "LCM": Solver(function=sde.lcm, view=lambda levels: levels.every(LCM_STRIDE)),
    "Restart": Solver(function=ode.restart),
}
