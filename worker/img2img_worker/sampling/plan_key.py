"""The parameters that an image's plan depends on."""

from dataclasses import dataclass
from math import inf
from typing import Any, Self

from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS
from img2img_shared.step_count import schedule_and_start


@dataclass(frozen=True, kw_only=True)
class PlanKey:
    """All parameters that a plan depends on; `Params` says what they mean."""

    sampler_name: str
    scheduler: str
    steps: int
    denoising_strength: float
    fix_steps: bool = False
    txt2img: bool = False
    #: of a hires fix
    second_pass: bool = False
    initial_noise_multiplier: float = 1.0
    extra_noise: float = 0.0
    sgm_noise_multiplier: bool = False
    eta: float | None = None
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float | None = None
    s_noise: float = 1.0
    rho: float = 0.0
    sigma_min: float = 0.0
    sigma_max: float = 0.0
    use_old_karras_scheduler_sigmas: bool = False
    beta_dist_alpha: float = 0.6
    beta_dist_beta: float = 0.6
    always_discard_next_to_last_sigma: bool = False
    enable_quantization: bool = False
    use_downcasted_alpha_bar: bool = False
    sd_noise_schedule: str = "Default"
    no_dpmpp_sde_batch_determinism: bool = False
    uni_pc_variant: str = "bh1"
    uni_pc_skip_type: str = "time_uniform"
    uni_pc_order: int = 3
    uni_pc_lower_order_final: bool = True

    @classmethod
    def of(cls, params: Params, *, second_pass: bool = False) -> Self:
        names = cls.__dataclass_fields__.keys() - {"second_pass"}
        return cls(**{name: getattr(params, name) for name in names}, second_pass=second_pass)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments for the sampler: the options that it takes itself."""
        sampler = SAMPLERS[self.sampler_name]
        values = {name: getattr(self, name) for name in sampler.options - {"uni_pc_skip_type"}}
        if "eta" in values:
            values["eta"] = sampler.eta if self.eta is None else self.eta
        if sampler.solver_type is not None:
            values["solver_type"] = sampler.solver_type
        if "s_tmax" in values:
            values["s_tmax"] = self.s_tmax or inf
        return {name.removeprefix("uni_pc_"): value for name, value in values.items()}

    @property
    def steps_and_start(self) -> tuple[int, int]:
        """(T, t_start): the schedule's length, and the number of its steps after the first that is run."""
        if self.txt2img:
            return self.steps, self.steps - 1
        return schedule_and_start(self.steps, self.denoising_strength, fix_steps=self.fix_steps)

    @property
    def discards(self) -> bool:
        """Whether the last sigma before the end is left out."""
        own = SAMPLERS[self.sampler_name].discard_next_to_last_sigma
        return own or self.always_discard_next_to_last_sigma
