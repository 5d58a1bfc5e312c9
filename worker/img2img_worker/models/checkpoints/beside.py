"""The configuration file beside a checkpoint's file (``NAME.yaml``), as A1111 looks for it."""

from pathlib import Path
from typing import Any

import yaml

from img2img_shared.errors import Refused

_PARAMETERIZATIONS = {"eps": "epsilon", "v": "v_prediction"}
#: keys of an ldm model's ``params`` and, in diffusers' terms, of the scheduler
_SCHEDULER = {"linear_start": "beta_start", "linear_end": "beta_end", "timesteps": "num_train_timesteps"}


def config_file(path: Path) -> str | None:
    """``NAME.yaml``, if there is such a file."""
    file = path.with_suffix(".yaml")
    return str(file) if file.is_file() else None


def described(path: Path) -> dict[str, Any]:
    """The ``params`` of the model in ``NAME.yaml``; empty where there is no such file.

    Raises:
        Refused: it describes no model.
    """
    if (beside := config_file(path)) is None:
        return {}
    file = Path(beside)
    try:
        read = yaml.safe_load(file.read_text(encoding="utf-8"))
        params = read["model"]["params"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        params = None
    if not isinstance(params, dict):
        raise Refused(
            "model", str(file), "it describes no model (model: params: is missing); correct it or remove it"
        )
    return params


def scheduler_of(params: dict[str, Any], path: Path) -> dict[str, Any]:
    """What these `params` say about noise and prediction, as keys of diffusers' scheduler.

    Raises:
        Refused: the parameterization is unknown.
    """
    if not params:
        return {}
    kind = params.get("parameterization", "eps")
    scaling = str(_inside(params, "denoiser_config", "params", "scaling_config").get("target", ""))  # XL's
    if scaling.endswith(".VScaling"):
        kind = "v"
    if kind not in _PARAMETERIZATIONS:
        reason = f"its parameterization is {kind!r}; use {' or '.join(_PARAMETERIZATIONS)}"
        raise Refused("model", str(path.with_suffix(".yaml")), reason)
    found = {ours: params[theirs] for theirs, ours in _SCHEDULER.items() if theirs in params}
    return found | {"prediction_type": _PARAMETERIZATIONS[kind]}


def heads_of(params: dict[str, Any], channels: list[int], path: Path) -> int | list[int] | None:
    """The number of the UNet's attention heads, at each level if they differ; None: `params` do not say.

    Raises:
        Refused: what they say is no number of heads.
    """
    unet = _inside(params, "unet_config", "params")
    try:
        if int(unet.get("num_heads", -1)) > 0:
            return int(unet["num_heads"])
        if int(unet.get("num_head_channels", -1)) > 0:
            return [size // int(unet["num_head_channels"]) for size in channels]
    except (TypeError, ValueError) as error:
        raise Refused(
            "model",
            str(path.with_suffix(".yaml")),
            f"its number of attention heads makes no sense ({error}); correct it or remove it",
        ) from None
    return None


def _inside(found: Any, *keys: str) -> dict[str, Any]:
    """The mapping below these keys; empty: there is none."""
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
