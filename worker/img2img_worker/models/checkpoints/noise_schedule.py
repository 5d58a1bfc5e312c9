"""The noise a checkpoint was trained with, from its scheduler's configuration."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2img_shared.errors import Refused

#: A1111's stand-in for the last abar of a zero-terminal-SNR model, whose sigma would be infinite
_TERMINAL_ABAR = 4.8973451890853435e-08


def alphas_cumprod(config: Mapping[str, Any]) -> NDArray[np.float32]:
    """abar of every training step, [n]: float64 until the end, then rounded, as A1111's ldm does it.

    Args:
        config: the keys of diffusers' ``scheduler_config.json``; what it lacks is Stable Diffusion's. A key
            ``alphas_cumprod`` (original layout) wins over all but ``rescale_betas_zero_snr``.

    Raises:
        Refused: a beta schedule that is none of linear, scaled_linear and explicit betas; nonsense.
    """
    try:
        abar = _abar(config)
    except (TypeError, ValueError) as error:
        raise Refused("model: scheduler", dict(config), f"numbers that make sense ({error})") from None
    if abar.ndim != 1 or not ((abar > 0) & (abar < 1)).all():
        raise Refused("model: scheduler", dict(config), "betas between 0 and 1")
    return _zero_terminal(abar) if config.get("rescale_betas_zero_snr") else abar


def _abar(config: Mapping[str, Any]) -> NDArray[np.float32]:
    if "alphas_cumprod" in config:
        return np.asarray(config["alphas_cumprod"], dtype=np.float32)
    n = int(config.get("num_train_timesteps", 1000))
    first, last = float(config.get("beta_start", 0.00085)), float(config.get("beta_end", 0.012))
    schedule = config.get("beta_schedule", "scaled_linear")
    if config.get("trained_betas") is not None:
        betas = np.asarray(config["trained_betas"], dtype=np.float64)
    elif schedule == "scaled_linear":
        betas = np.linspace(first**0.5, last**0.5, n, dtype=np.float64) ** 2
    elif schedule == "linear":
        betas = np.linspace(first, last, n, dtype=np.float64)
    else:
        raise Refused("model: beta_schedule", schedule, "linear or scaled_linear")
    abar: NDArray[np.float32] = np.cumprod(1 - betas).astype(np.float32)
    return abar


def _zero_terminal(abar: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shifted and scaled so that the last step holds no signal (Lin et al. 2023, algorithm 1)."""
    root = np.sqrt(abar)
    first, last = root[0], root[-1]
    rescaled: NDArray[np.float32] = ((root - last) * (first / (first - last))) ** 2
    rescaled[-1] = _TERMINAL_ABAR
    return rescaled
