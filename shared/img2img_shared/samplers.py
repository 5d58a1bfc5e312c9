"""A1111's samplers and schedules: their names, and what else both sides of the farm must know of them.

These are the only lists. The worker finds a sampler's function by its name here, and a schedule's by its
short name; the producer, which has no torch, reads names and defaults from here.
"""

from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """One schedule of noise levels."""

    #: A1111's short name, and the function's in `img2img_worker.sampling.schedules`
    name: str
    #: the exponent that `rho` replaces; None: it has none
    default_rho: float | None = None
    #: what else a sampler's name may end in, as in "DPM++ 2M SGMUniform"
    aliases: tuple[str, ...] = ()


#: In A1111's order: of two that a sampler's name ends in, the first is found ("Uniform" in "SGM Uniform").
#: "Automatic" stands for the sampler's own.
SCHEDULERS: dict[str, Scheduler] = {
    "Automatic": Scheduler(name="automatic"),
    "Uniform": Scheduler(name="uniform"),
    "Karras": Scheduler(name="karras", default_rho=7.0),
    "Exponential": Scheduler(name="exponential"),
    "Polyexponential": Scheduler(name="polyexponential", default_rho=1.0),
    "SGM Uniform": Scheduler(name="sgm_uniform", aliases=("SGMUniform",)),
    "KL Optimal": Scheduler(name="kl_optimal"),
    "Align Your Steps": Scheduler(name="align_your_steps"),
    "Simple": Scheduler(name="simple"),
    "Normal": Scheduler(name="normal"),
    "DDIM": Scheduler(name="ddim"),
    "Beta": Scheduler(name="beta"),
}


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A sampler, and how A1111 runs it."""

    #: module and function in `img2img_worker.sampling`
    function: str
    #: schedule that "Automatic" stands for; None: A1111's plain one, which is "Uniform" without its options
    scheduler: str | None = None
    #: one more step is scheduled, and the last sigma above the end left out
    discard_next_to_last_sigma: bool = False
    #: prompts are edited on a clock of two model calls a step
    second_order: bool = False
    #: its noises are increments of one Brownian path, else independent draws
    brownian_noise: bool = False
    #: A1111 writes `eta_noise_seed_delta` into its pictures
    uses_ensd: bool = False
    #: function in `img2img_worker.sampling.runs` that says which sigmas it visits
    run: str = "scheduled"
    #: it chooses its steps by the model's answers
    adaptive: bool = False
    #: how many levels it was distilled on, of the model's; None: it knows all of them
    original_timesteps: int | None = None
    #: which of its function's methods it is
    solver_type: str | None = None
    #: what `cfg_scale` is multiplied by
    cfg_scale_multiplier: float = 1.0
    #: parameters that only some samplers have, and this one does
    options: frozenset[str] = frozenset()
    #: A1111 lists these names too, but does not understand them
    aliases: tuple[str, ...] = ()

    @property
    def timesteps(self) -> bool:
        """Whether it runs on timesteps of its own, whatever the schedule's name, with a latent that preserves
        variance, whose masked part it blends before each call and not after."""
        return self.run in ("timesteps", "uni_pc")

    @property
    def eta(self) -> float:
        """The default of `eta` (A1111's ``eta_ddim`` and ``eta_ancestral``)."""
        return 0.0 if self.timesteps else 1.0

    def schedule(self, scheduler: str) -> str | None:
        """The schedule that runs under a name of `SCHEDULERS`; None: the plain one."""
        return self.scheduler if scheduler == "Automatic" else scheduler


_CHURN = frozenset({"s_churn", "s_tmin", "s_tmax", "s_noise"})
_ETA = frozenset({"eta"})
_ETA_NOISE = frozenset({"eta", "s_noise"})
_UNI_PC = frozenset({"uni_pc_variant", "uni_pc_skip_type", "uni_pc_order", "uni_pc_lower_order_final"})

#: Options are what A1111 hands to each: not `s_noise` to Euler a and DPM adaptive, though they would have it.
SAMPLERS: dict[str, Sampler] = {
    "DPM++ 2M": Sampler(function="ode.dpmpp_2m", scheduler="Karras", aliases=("k_dpmpp_2m",)),
    "DPM++ SDE": Sampler(
        function="sde.dpmpp_sde",
        scheduler="Karras",
        second_order=True,
        brownian_noise=True,
        options=_ETA_NOISE,
        aliases=("k_dpmpp_sde",),
    ),
    "DPM++ 2M SDE": Sampler(
        function="sde.dpmpp_2m_sde",
        scheduler="Exponential",
        brownian_noise=True,
        options=_ETA_NOISE,
        aliases=("k_dpmpp_2m_sde",),
    ),
    "DPM++ 2M SDE Heun": Sampler(
        function="sde.dpmpp_2m_sde",
        scheduler="Exponential",
        brownian_noise=True,
        solver_type="heun",
        options=_ETA_NOISE,
        aliases=("k_dpmpp_2m_sde_heun",),
    ),
    "DPM++ 2S a": Sampler(
        function="sde.dpmpp_2s_ancestral",
        scheduler="Karras",
        uses_ensd=True,
        second_order=True,
        options=_ETA_NOISE,
        aliases=("k_dpmpp_2s_a",),
    ),
    "DPM++ 3M SDE": Sampler(
        function="sde.dpmpp_3m_sde",
        scheduler="Exponential",
        discard_next_to_last_sigma=True,
        brownian_noise=True,
        options=_ETA_NOISE,
        aliases=("k_dpmpp_3m_sde",),
    ),
    "Euler a": Sampler(
        function="sde.euler_ancestral",
        uses_ensd=True,
        options=_ETA,
        aliases=("k_euler_a", "k_euler_ancestral"),
    ),
    "Euler": Sampler(function="ode.euler", options=_CHURN, aliases=("k_euler",)),
    "LMS": Sampler(function="ode.lms", aliases=("k_lms",)),
    "Heun": Sampler(function="ode.heun", second_order=True, options=_CHURN, aliases=("k_heun",)),
    "DPM2": Sampler(
        function="ode.dpm_2",
        scheduler="Karras",
        discard_next_to_last_sigma=True,
        second_order=True,
        options=_CHURN,
        aliases=("k_dpm_2",),
    ),
    "DPM2 a": Sampler(
        function="sde.dpm_2_ancestral",
        scheduler="Karras",
        discard_next_to_last_sigma=True,
        uses_ensd=True,
        second_order=True,
        options=_ETA_NOISE,
        aliases=("k_dpm_2_a",),
    ),
    "DPM fast": Sampler(
        function="dpm_solver.dpm_fast",
        run="ends",
        uses_ensd=True,
        options=_ETA_NOISE,
        aliases=("k_dpm_fast",),
    ),
    "DPM adaptive": Sampler(
        function="dpm_solver.dpm_adaptive",
        run="ends",
        adaptive=True,
        uses_ensd=True,
        options=_ETA,
        aliases=("k_dpm_ad",),
    ),
    "Restart": Sampler(function="ode.restart", scheduler="Karras", second_order=True, aliases=("restart",)),
    "DDIM": Sampler(function="sde.ddim", run="timesteps", options=_ETA, aliases=("ddim",)),
    "DDIM CFG++": Sampler(
        function="sde.ddim_cfg_pp",
        run="timesteps",
        cfg_scale_multiplier=1 / 12.5,
        options=_ETA,
        aliases=("ddim_cfgpp",),
    ),
    "PLMS": Sampler(function="ode.plms", run="timesteps", aliases=("plms",)),
    "UniPC": Sampler(function="uni_pc.uni_pc", run="uni_pc", options=_UNI_PC, aliases=("unipc",)),
    "LCM": Sampler(function="sde.lcm", original_timesteps=50, aliases=("k_lcm",)),
}

#: parameters that some samplers have, and others do not
SAMPLER_OPTIONS: frozenset[str] = frozenset().union(*(sampler.options for sampler in SAMPLERS.values()))
#: those that only named schedules have
_SIGMA_RANGE = frozenset({"sigma_min", "sigma_max", "use_old_karras_scheduler_sigmas"})
_BETA = frozenset({"beta_dist_alpha", "beta_dist_beta"})


def without_effect(sampler_name: str, scheduler: str, *, txt2img: bool = False) -> frozenset[str]:
    """Parameters that have no effect with this sampler and this schedule, as in A1111."""
    sampler = SAMPLERS[sampler_name]
    schedule = None if sampler.timesteps else sampler.schedule(scheduler)
    found = set(SAMPLER_OPTIONS - sampler.options)
    if schedule is None:
        found |= _SIGMA_RANGE
    if schedule is None or SCHEDULERS[schedule].default_rho is None:
        found.add("rho")
    if schedule != "Beta":
        found |= _BETA
    if not sampler.brownian_noise:
        found.add("no_dpmpp_sde_batch_determinism")
    if sampler.timesteps or not txt2img:
        found.add("sgm_noise_multiplier")
    return frozenset(found)


#: parameters that a refiner alone gives a meaning
REFINER_OPTIONS = ("refiner_switch_at", "hires_fix_refiner_pass")


def taker(option: str) -> dict[str, str | bool]:
    """Parameters with which `option` has an effect."""
    if option in REFINER_OPTIONS:
        return {"refiner_checkpoint": "any"}
    for sampler_name, scheduler in product(SAMPLERS, SCHEDULERS):
        if option not in without_effect(sampler_name, scheduler, txt2img=True):
            return {"sampler_name": sampler_name, "scheduler": scheduler, "txt2img": True}
    raise KeyError(option)
