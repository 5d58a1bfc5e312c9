"""What a picture's text tells of its sampling, by A1111's names and in its order."""

from img2img_shared.names import SAMPLERS, SCHEDULERS
from img2img_shared.params import Params
from img2img_worker.sampling.guidance import skips_early, skips_negative
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.live import LivePlan
from img2img_worker.sampling.plan import Plan


def told(params: Params, plan: Plan | LivePlan, levels: NoiseLevels) -> dict[str, object]:
    """What differs from A1111's defaults; nothing where it is as usual.

    `s_churn` and its like are not among it: A1111 tells them of its settings, but not of a request.
    """
    pairs: dict[str, object | None] = {
        "Noise Schedule": params.sd_noise_schedule if params.sd_noise_schedule != "Default" else None,
    }
    if not params.txt2img and params.initial_noise_multiplier != 1:
        pairs["Noise multiplier"] = params.initial_noise_multiplier
    pairs |= _of_the_schedule(params, levels)
    if not params.txt2img:
        pairs["Extra noise"] = params.extra_noise or None
    pairs["SGM noise multiplier"] = params.sgm_noise_multiplier or None
    sampler = SAMPLERS[params.sampler_name]
    if "eta" in sampler.options and params.eta not in (None, sampler.eta):
        pairs["Eta DDIM" if sampler.timesteps else "Eta"] = params.eta
    return {
        name: value for name, value in (pairs | _of_the_guidance(params, plan)).items() if value is not None
    }


def seed_delta(params: Params) -> int | None:
    """ENSD, which A1111 tells where it takes the sampler for one that draws noise: None elsewhere."""
    sampler = SAMPLERS[params.sampler_name]
    eta = sampler.eta if params.eta is None else params.eta
    return params.eta_noise_seed_delta or None if sampler.uses_ensd and eta else None


def _of_the_schedule(params: Params, levels: NoiseLevels) -> dict[str, object | None]:
    sampler = SAMPLERS[params.sampler_name]
    schedule = None if sampler.timesteps else sampler.schedule(params.scheduler)
    discards = params.always_discard_next_to_last_sigma and not sampler.discard_next_to_last_sigma
    pairs: dict[str, object | None] = {"Discard penultimate sigma": discards or None}
    if schedule is None:
        return pairs
    ends = {"Schedule min sigma": params.sigma_min, "Schedule max sigma": params.sigma_max}
    own = {"Schedule min sigma": levels.sigma_min, "Schedule max sigma": levels.sigma_max}
    pairs |= {name: sigma for name, sigma in ends.items() if sigma not in (0, own[name])}
    if params.rho not in (0, SCHEDULERS[schedule].default_rho):
        pairs["Schedule rho"] = params.rho
    if schedule == "Beta":
        pairs |= {"Beta schedule alpha": params.beta_dist_alpha, "Beta schedule beta": params.beta_dist_beta}
    return pairs


def _of_the_guidance(params: Params, plan: Plan | LivePlan) -> dict[str, object | None]:
    if isinstance(plan, LivePlan):
        # its last calls come near to its end, every second one and the others
        early, below = params.skip_early_cond > 0, plan.last_sigma < params.s_min_uncond
    else:
        told = enumerate(zip(plan.sigmas, plan.timesteps, strict=True))
        skipped = {call for call, (sigma, t) in told if skips_negative(params, call, sigma=sigma, timestep=t)}
        first = {call for call in skipped if skips_early(params, call)}
        early, below = bool(first), bool(skipped - first)
    return {
        "Skip Early CFG": params.skip_early_cond if early else None,
        "NGMS": params.s_min_uncond if below else None,
        "NGMS all steps": True if below and params.s_min_uncond_all else None,
    }
