"""The infotext's entries on sampling, by A1111's names and in its order."""

from operator import itemgetter

from img2img_shared.param_groups.refiner_params import RefinerParams
from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS, SCHEDULERS
from img2img_worker.sampling.guidance import skips_early, skips_negative
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.live import LivePlan
from img2img_worker.sampling.plan import Plan
from img2img_worker.sampling.refiner import first_refined


def infotext_pairs(
    params: Params, plan: Plan | LivePlan, levels: NoiseLevels, refiner: str | None = None
) -> dict[str, object]:
    """The entries that differ from A1111's defaults.

    `s_churn` and the like are included only if asked for: A1111 writes those of its settings, not of a
    request.

    Args:
        refiner: the name and hash of its refiner.
    """
    pairs: dict[str, object | None] = {
        "Downcast alphas_cumprod": params.use_downcasted_alpha_bar or None,
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
    pairs |= _of_the_churn(params)
    pairs |= _of_the_calls(params, plan, levels, refiner)
    return {name: value for name, value in pairs.items() if value is not None}


def seed_delta(params: Params) -> int | None:
    """ENSD, which A1111 writes if it believes the sampler to draw noise; otherwise None."""
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


def _of_the_churn(params: Params) -> dict[str, object | None]:
    values = {
        "s_churn": params.s_churn or None,
        "s_tmin": params.s_tmin or None,
        "s_tmax": params.s_tmax,
        "s_noise": params.s_noise if params.s_noise != 1 else None,
    }
    wanted = params.add_churn_to_info.split(", ")
    return {name.replace("s_", "Sigma "): value for name, value in values.items() if name in wanted}


def _of_the_calls(
    params: Params, plan: Plan | LivePlan, levels: NoiseLevels, refiner: str | None
) -> dict[str, object | None]:
    """The entries that A1111 makes at model calls, in their order."""
    by_steps = params.refiner_switch_by_sample_steps or None
    entries: list[tuple[int, dict[str, object | None]]] = [
        (-1, {"Refiner switch by sampling steps": by_steps})
    ]
    refined = first_refined(params, plan, levels)
    if refined is not None:
        hires = params.hires_fix_refiner_pass
        default = RefinerParams.model_fields["hires_fix_refiner_pass"].default
        is_written = params.enable_hr and hires != default
        pairs = {"Hires refiner": hires if is_written else None, "Refiner": refiner}
        entries.append((refined, pairs | {"Refiner switch at": params.refiner_switch_at}))
    entries += _of_the_guidance(params, plan)
    return {name: value for _, pairs in sorted(entries, key=itemgetter(0)) for name, value in pairs.items()}


def _of_the_guidance(params: Params, plan: Plan | LivePlan) -> list[tuple[int, dict[str, object | None]]]:
    """Entries, each with the first model call that causes it."""
    if isinstance(plan, LivePlan):
        # its last calls, of which every second one skips the negative row, are near to its last sigma
        skipped = {plan.expected} if plan.last_sigma < params.s_min_uncond else set()
        first = {0} if params.skip_early_cond > 0 else set()
    else:
        calls = enumerate(zip(plan.sigmas, plan.timesteps, strict=True))
        skipped = {
            call for call, (sigma, t) in calls if skips_negative(params, call, sigma=sigma, timestep=t)
        }
        first = {call for call in skipped if skips_early(params, call)}
    entries: list[tuple[int, dict[str, object | None]]] = []
    if first:
        entries.append((min(first), {"Skip Early CFG": params.skip_early_cond}))
    if below := skipped - first:
        all_steps = params.s_min_uncond_all or None
        entries.append((min(below), {"NGMS": params.s_min_uncond, "NGMS all steps": all_steps}))
    return entries
