"""A1111's settings, as far as they have a meaning here; what cannot be set keeps A1111's default."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from img2img_gateway.service import FarmService
from img2img_shared.connect import answering
from img2img_shared.errors import Refused

#: what a tenant or a request may set, with A1111's default
CHANGEABLE: dict[str, Any] = {
    "sd_model_checkpoint": None,
    "CLIP_stop_at_last_layers": 1,
    "randn_source": "CPU",
    "samples_format": "png",
    "initial_noise_multiplier": 1.0,
    "img2img_extra_noise": 0.0,
    "img2img_color_correction": False,
    "img2img_fix_steps": False,
    "img2img_background_color": "#ffffff",
    "eta_ancestral": 1.0,
    "eta_ddim": 0.0,
    "s_churn": 0.0,
    "s_tmin": 0.0,
    "s_tmax": 0.0,
    "s_noise": 1.0,
    "s_min_uncond": 0.0,
}

#: what clients read or send along, and what it always is
FIXED: dict[str, Any] = {
    "sd_checkpoint_hash": "",
    "sd_vae": "Automatic",
    "sd_vae_overrides_per_model_preferences": True,
    "sd_lora": "None",
    "sd_hypernetwork": "None",
    "sd_checkpoints_limit": 1,
    "sd_checkpoint_cache": 0,
    "sd_unet": "Automatic",
    "eta_noise_seed_delta": 0,
    "always_discard_next_to_last_sigma": False,
    "sgm_noise_multiplier": False,
    "use_old_emphasis_implementation": False,
    "use_old_karras_scheduler_sigmas": False,
    "no_dpmpp_sde_batch_determinism": False,
    "emphasis": "Original",
    "enable_emphasis": True,
    "comma_padding_backtrack": 20,
    "inpainting_mask_weight": 1.0,
    "face_restoration": False,
    "face_restoration_model": None,
    "code_former_weight": 0.5,
    "tiling": False,
    "token_merging_ratio": 0.0,
    "token_merging_ratio_img2img": 0.0,
    "return_grid": False,
    "return_mask": False,
    "return_mask_composite": False,
    "do_not_show_images": False,
    "grid_save": False,
    "samples_save": False,
    "save_init_img": False,
    "save_images_add_number": True,
    "save_images_before_color_correction": False,
    "save_images_before_face_restoration": False,
    "save_images_before_highres_fix": False,
    "save_mask": False,
    "save_mask_composite": False,
    "enable_pnginfo": True,
    "jpeg_quality": 95,
    "webp_lossless": True,
    "live_previews_enable": True,
    "show_progress_every_n_steps": 10,
    "show_progress_type": "Approx NN",
    "show_progress_grid": True,
    "live_previews_image_format": "png",
    "upscaler_for_img2img": None,
    "ESRGAN_tile": 192,
    "ESRGAN_tile_overlap": 8,
    "api_enable_requests": False,
    "api_forbid_local_requests": True,
    "uni_pc_variant": "bh1",
    "uni_pc_skip_type": "time_uniform",
    "uni_pc_order": 3,
    "uni_pc_lower_order_final": True,
}


class Options:
    """Each tenant's settings, in Redis."""

    def __init__(self, core: FarmService, tenant: str) -> None:
        self._core = core
        self._call: Callable[..., Any] = core.redis.execute_command
        self._key = core.key("options", tenant)

    async def all(self) -> dict[str, Any]:
        """Every option by its name."""
        chosen = {**CHANGEABLE, **await self._core.call(self._read)}
        if chosen["sd_model_checkpoint"] is None:
            served = sorted({worker.info.model for worker in await self._core.workers()})
            chosen["sd_model_checkpoint"] = served[0] if len(served) == 1 else None
        return {**FIXED, **chosen}

    async def change(self, given: Mapping[str, Any]) -> None:
        """Keep the tenant's choice, whole or not at all.

        Raises:
            Refused: names an option that does not exist, or may not be that.
        """
        checked = await self.checked(given)
        if checked:
            await self._core.call(self._write, checked)

    async def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `given` that change something here, with the model by the name workers serve it under.

        Raises:
            Refused: names an option that does not exist, or may not be that.
        """
        found: dict[str, Any] = {}
        for name, value in given.items():
            if name == "sd_model_checkpoint":
                found |= {name: await self._model(value)} if value else {}
            elif name in CHANGEABLE:
                found[name] = checked_option(name, value)
            elif name not in FIXED:
                raise Refused(name, value, "an option of GET /sdapi/v1/options")
            elif value != FIXED[name] and value not in (None, ""):
                raise Refused(name, value, f"{FIXED[name]!r}, which cannot be changed here")
        return found

    async def _model(self, wanted: object) -> str:
        known = await self._core.models()
        return find_model(wanted, known)

    def _read(self) -> dict[str, Any]:
        with answering():
            kept: dict[bytes, bytes] = self._call("HGETALL", self._key)
        found = {str(name, "utf-8"): json.loads(value) for name, value in kept.items()}
        return {name: value for name, value in found.items() if name in CHANGEABLE}

    def _write(self, changes: dict[str, Any]) -> None:
        pairs = [word for name, value in changes.items() for word in (name, json.dumps(value))]
        with answering():
            self._call("HSET", self._key, *pairs)


def checked_option(name: str, value: Any) -> Any:
    """A value of an option that may be changed.

    Raises:
        Refused: it may not be that.
    """
    choices = {
        "randn_source": {"cpu": "CPU", "nv": "NV"},
        "samples_format": {"png": "png", "jpg": "jpg", "jpeg": "jpg", "webp": "webp"},
    }
    if name in choices:
        found = choices[name].get(str(value).lower())
        if found is None:
            raise Refused(name, value, " or ".join(dict.fromkeys(choices[name].values())))
        return found
    default = CHANGEABLE[name]
    kinds: tuple[type, ...] = (int, float) if isinstance(default, float) else (type(default),)
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise Refused(name, value, f"such as {default!r}")
    return value


def find_model(wanted: object, known: list[str]) -> str:
    """The checkpoint that a client means: by its title ("name.safetensors [hash]"), name or file.

    Raises:
        Refused: names the served ones.
    """
    name = str(wanted)
    bare = name.split(" [")[0].removesuffix(".safetensors").removesuffix(".ckpt")
    for model in known:
        if name == model or bare == model:
            return model
    alike = [model for model in known if bare.lower() == title_of(model).lower()]
    if len(alike) == 1:
        return alike[0]
    served = ", ".join(map(title_of, known)) or "none is, for now"
    raise Refused("sd_model_checkpoint", wanted, f"a model that is served: {served}")


def title_of(model: str) -> str:
    """How a checkpoint is called in lists: workers may serve it under its path."""
    return model.rstrip("/").rsplit("/", 1)[-1].removesuffix(".safetensors").removesuffix(".ckpt")
