"""The functions of all samplers, by AUTOMATIC1111's names.

To add a sampler write one function in `ode` or `sde`, `(model, x, sigmas, noise, *, options) -> x`, in its
paper's terms, and give it one entry in `img2img_shared.names.SAMPLERS`, which names that function. That is
all: a plan is compiled by running it (`plan`), and the engine runs plans.

A sampler must be linear in latent, noise and answers, and choose its steps by the sigmas alone: one that
looks at the latent (DPM adaptive) has no plan.
"""

from collections.abc import Callable
from functools import cache

from img2img_shared.names import SAMPLERS
from img2img_worker.sampling import dpm_solver, ode, sde, uni_pc
from img2img_worker.sampling.vectors import Vector

_MODULES = {module.__name__.rpartition(".")[2]: module for module in (dpm_solver, ode, sde, uni_pc)}


@cache
def solver(sampler_name: str) -> Callable[..., Vector]:
    """`(model, x, sigmas, noise, *, options) -> x` of a sampler."""
    module, function = SAMPLERS[sampler_name].function.split(".")
    found: Callable[..., Vector] = getattr(_MODULES[module], function)
    return found
