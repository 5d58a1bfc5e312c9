"""The noise levels that a checkpoint was trained with, from its scheduler's configuration.

Only diffusers' keys about training are used; those about sampling are not: a job's parameters decide that.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2img_shared.errors import Refused
from img2img_worker.sampling.levels import LAST_ALPHA, ContinuousLevels, NoiseLevels

#: most training steps; published checkpoints have 1,000
_MOST_STEPS = 100_000
#: keys of diffusers' schedulers that are read here or in `family_builder`, and those about sampling, for
#: which a job has parameters
_KNOWN = re.compile(
    r"_\w+|alphas_cumprod|beta_(start|end|schedule)|trained_betas|num_train_timesteps|prediction_type"
    r"|rescale_betas_zero_snr|sigma_(min|max|data)"
    r"|algorithm_type|clip_(sample|sample_range|denoised)|(lower_order|euler_at)_final|final_sigmas_type"
    r"|(dynamic_)?thresholding(_ratio)?|sample_max_value|interpolation_type|lambda_min_clipped|rho|flow_shift"
    r"|original_inference_steps|predict_x0|disable_corrector|set_alpha_to_one|skip_prk_steps|steps_offset"
    r"|solver_(order|type|p)|time_shift_type|timestep_(scaling|spacing|type)|variance_type|sigma_schedule"
    r"|use_(beta|exponential|karras)_sigmas|use_lu_lambdas|noise_sampler_seed"
)


def noise_levels(config: Mapping[str, Any], *, is_sdxl: bool) -> NoiseLevels:
    """The noise levels of a scheduler's configuration.

    Raises:
        Refused: as `alphas_cumprod`; an unknown key has a value; the sigmas make no sense.
    """
    for key, value in config.items():
        if not _KNOWN.fullmatch(key) and value not in (None, False):
            raise Refused(
                f"model.scheduler.{key}",
                value,
                "this setting is unknown here; remove it, or use another checkpoint",
            )
    kind = str(config.get("_class_name", ""))
    if "FlowMatch" in kind:
        raise Refused(
            "model.scheduler", kind, "this scheduler is unknown here; use that of a diffusion model"
        )
    if not kind.startswith("EDM") and "sigma_data" not in config:
        return NoiseLevels.from_alphas_cumprod(alphas_cumprod(config), is_sdxl=is_sdxl)
    try:
        least, most = float(config.get("sigma_min", 0.002)), float(config.get("sigma_max", 80.0))
        return ContinuousLevels.between_sigmas(
            least, most, latent_scale=latent_scale(config), is_sdxl=is_sdxl
        )
    except (TypeError, ValueError) as error:
        raise Refused(
            "model.scheduler", dict(config), f"its numbers make no sense ({error}); use another checkpoint"
        ) from None


def latent_scale(config: Mapping[str, Any]) -> float:
    """Standard deviation of the latents in training, ``sigma_data``; if missing, 0.5 for EDM and else 1.

    Raises:
        Refused: it is no finite number above 0.
    """
    is_edm = str(config.get("_class_name", "")).startswith("EDM")
    try:
        scale = float(config.get("sigma_data", 0.5 if is_edm else 1.0))
    except (TypeError, ValueError):
        scale = 0.0
    if not 0 < scale < float("inf"):
        raise Refused("model.sigma_data", config.get("sigma_data"), "give a number above 0")
    return scale


def alphas_cumprod(config: Mapping[str, Any]) -> NDArray[np.float32]:
    """abar of every training step, [n]: computed in float64 and then rounded, as A1111's ldm does it.

    Args:
        config: the keys of diffusers' ``scheduler_config.json``; Stable Diffusion's values stand in for what
            it lacks. A key ``alphas_cumprod`` (original layout) overrides all but ``rescale_betas_zero_snr``.

    Raises:
        Refused: the betas are neither linear, scaled_linear nor given one by one; or they make no sense.
    """
    try:
        abar = _abar(config)
    except (TypeError, ValueError) as error:
        raise Refused(
            "model.scheduler", dict(config), f"its numbers make no sense ({error}); use another checkpoint"
        ) from None
    if abar.ndim != 1 or not ((abar > 0) & (abar < 1)).all():
        raise Refused("model.scheduler", dict(config), "its betas must be between 0 and 1")
    return _zero_terminal(abar) if config.get("rescale_betas_zero_snr") else abar


def _abar(config: Mapping[str, Any]) -> NDArray[np.float32]:
    if "alphas_cumprod" in config:
        return np.asarray(config["alphas_cumprod"], dtype=np.float32)
    n = int(config.get("num_train_timesteps", 1000))
    if not 2 <= n <= _MOST_STEPS:
        raise ValueError(f"{n} training steps")
    first, last = float(config.get("beta_start", 0.00085)), float(config.get("beta_end", 0.012))
    schedule = config.get("beta_schedule", "scaled_linear")
    if config.get("trained_betas") is not None:
        betas = np.asarray(config["trained_betas"], dtype=np.float64)
    elif schedule == "scaled_linear":
        betas = np.linspace(first**0.5, last**0.5, n, dtype=np.float64) ** 2
    elif schedule == "linear":
        betas = np.linspace(first, last, n, dtype=np.float64)
    else:
        raise Refused("model.beta_schedule", schedule, "use linear or scaled_linear")
    abar: NDArray[np.float32] = np.cumprod(1 - betas).astype(np.float32)
    return abar


def _zero_terminal(abar: NDArray[np.float32]) -> NDArray[np.float32]:
    """abar, shifted and scaled so that the last step has next to no signal (Lin et al. 2023, algorithm 1).

    `NoiseLevels.zero_terminal_snr` is the same by torch's operations, which round some last bits differently.
    """
    root = np.sqrt(abar)
    first, last = root[0], root[-1]
    rescaled: NDArray[np.float32] = ((root - last) * (first / (first - last))) ** 2
    rescaled[-1] = LAST_ALPHA
    return rescaled
