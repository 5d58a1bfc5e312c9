"""The functions of all samplers, by AUTOMATIC1111's names.

To add a sampler, write one function in `ode` or `sde`, `(model, x, sigmas, noise, *, options) -> x`, in its
paper's terms, and add an entry to `img2img_shared.samplers.SAMPLERS` that names it. Nothing else is needed:
a plan is compiled by running the function (`plan`), and the engine executes plans.

A sampler must be linear in latent, noise and answers, and choose its steps by the sigmas alone. One that
depends on the answers (DPM adaptive) has no plan: it is a generator, `(x, noise, *, sigmas, options)`, and
its entry says that it is adaptive (see `live`).
"""

from collections.abc import Callable
from typing import Any

from img2img_shared.samplers import SAMPLERS
from img2img_worker.sampling import dpm_solver, ode, sde, uni_pc
from img2img_worker.sampling.vectors import LiveSteps, Vector

_MODULES = {module.__name__.rpartition(".")[2]: module for module in (dpm_solver, ode, sde, uni_pc)}


def solver(sampler_name: str) -> Callable[..., Vector]:
    """`(model, x, sigmas, noise, *, options) -> x` of a sampler that is not adaptive."""
    found: Callable[..., Vector] = _function(sampler_name)
    return found


def adaptive_solver(sampler_name: str) -> Callable[..., LiveSteps]:
    """`(x, noise, *, sigmas, options) -> steps` of an adaptive sampler."""
    found: Callable[..., LiveSteps] = _function(sampler_name)
    return found


def _function(sampler_name: str) -> Any:
    module, function = SAMPLERS[sampler_name].function.split(".")
    return getattr(_MODULES[module], function)
