"""Bodies as programs for A1111 send them, field by field, and what those programs read of the answers."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sd_backend_client
from PIL import Image

from tests.integration.gateway import PATIENCE, FakeWorker, Gateway, picture

PICTURE = base64.b64encode(picture()).decode()

#: openOutpaint, a canvas in the browser: null for what its user left alone, "" for no mask
OPEN_OUTPAINT = {
    "prompt": "a harbour",
    "negative_prompt": "",
    "seed": -1,
    "cfg_scale": None,
    "sampler_index": "DDIM",
    "steps": 3,
    "denoising_strength": 1,
    "mask_blur": 0,
    "batch_size": None,
    "width": 64,
    "height": 64,
    "n_iter": None,
    "mask": "",
    "init_images": ["data:image/png;base64," + PICTURE],
    "inpaint_full_res": False,
    "inpainting_fill": 1,
    "outpainting_fill": 2,
    "enable_hr": False,
    "restore_faces": False,
    "hr_scale": 2.0,
    "hr_upscaler": "None",
    "hr_second_pass_steps": 0,
    "hr_resize_x": 0,
    "hr_resize_y": 0,
    "hr_square_aspect": False,
    "styles": [],
}

#: AI Render, for Blender: names of its own beside A1111's
BLENDER = {
    "prompt": "a harbour",
    "negative_prompt": "blurry",
    "image_similarity": 0.4,
    "denoising_strength": 0.6,
    "cfg_scale": 7.0,
    "steps": 3,
    "seed": 1234,
    "width": 64,
    "height": 64,
    "sampler": "LMS",
    "sampler_index": "LMS",
    "init_images": ["data:image/png;base64," + PICTURE],
}

#: A1111's own tests, which editors' plug-ins follow: every field at its neutral value, a switch as a boolean
PLUG_IN = {
    "batch_size": 1,
    "cfg_scale": 7,
    "denoising_strength": 0.75,
    "eta": 0,
    "height": 64,
    "include_init_images": False,
    "init_images": [PICTURE],
    "inpaint_full_res": False,
    "inpaint_full_res_padding": 0,
    "inpainting_fill": 0,
    "inpainting_mask_invert": False,
    "mask": PICTURE,
    "mask_blur": 4,
    "n_iter": 1,
    "negative_prompt": "",
    "override_settings": {},
    "prompt": "example prompt",
    "resize_mode": 0,
    "restore_faces": False,
    "s_churn": 0,
    "s_noise": 1,
    "s_tmax": 0,
    "s_tmin": 0,
    "sampler_index": "Euler a",
    "seed": -1,
    "seed_resize_from_h": -1,
    "seed_resize_from_w": -1,
    "steps": 3,
    "styles": [],
    "subseed": -1,
    "subseed_strength": 0,
    "tiling": False,
    "width": 64,
    "alwayson_scripts": {},
    "script_name": "",
    "script_args": [],
    "refiner_checkpoint": None,
    "comments": {},
}

#: a bot for Discord: sizes to resize seeds from at 0, a style "None", the model by its name
DISCORD = {
    "prompt": "a harbour",
    "negative_prompt": "",
    "steps": 3,
    "width": 64,
    "height": 64,
    "cfg_scale": "7.0",
    "sampler_index": "DPM++ 2M Karras",
    "seed": 42,
    "seed_resize_from_h": 0,
    "seed_resize_from_w": 0,
    "denoising_strength": "0.5",
    "n_iter": 2,
    "styles": ["None"],
    "init_images": ["data:image/png;base64," + PICTURE],
    "override_settings": {"sd_model_checkpoint": "m", "CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"},
}

#: Auto-Photoshop-StableDiffusion-Plugin, its inpainting: the seed is a text, and much of its own goes along
PHOTOSHOP = {
    "selection_info": {"left": 0, "right": 64, "top": 0, "bottom": 64, "width": 64, "height": 64},
    "inpaint_full_res": False,
    "inpaint_full_res_padding": 0,
    "inpainting_fill": 0,
    "mask_expansion": 0,
    "mask": PICTURE,
    "expanded_mask": PICTURE,
    "denoising_strength": 0.7,
    "init_images": [PICTURE],
    "image_cfg_scale": 1.5,
    "alwayson_scripts": {},
    "prompt": "a harbour",
    "negative_prompt": "",
    "original_prompt": "a harbour",
    "original_negative_prompt": "",
    "steps": 3,
    "sampler_index": "Euler a",
    "width": 64,
    "height": 64,
    "batch_size": 2,
    "cfg_scale": 7,
    "seed": "1234",
    "mask_blur": 4,
    "use_sharp_mask": "none",
    "use_prompt_shortcut": False,
    "prompt_shortcut_ui_dict": {},
    "uniqueDocumentId": "3d6b1a2c",
    "mode": "inpaint",
    "restore_faces": False,
    "tiling": False,
}

#: AIYA, a bot for Discord: its draw command with a high-resolution fix, which img2img knows nothing of
AIYA = {
    "prompt": "a harbour",
    "negative_prompt": "",
    "steps": 3,
    "width": 64,
    "height": 64,
    "cfg_scale": "7.0",
    "sampler_index": "Euler a",
    "seed": 4294967295,
    "seed_resize_from_h": 0,
    "seed_resize_from_w": 0,
    "denoising_strength": "0.75",
    "n_iter": 2,
    "batch_size": 1,
    "styles": ["None"],
    "init_images": ["data:image/png;base64," + PICTURE],
    "enable_hr": True,
    "hr_upscaler": "Latent (nearest)",
    "hr_scale": 1,
    "hr_second_pass_steps": 1.5,
    "override_settings": {"CLIP_stop_at_last_layers": 1},
}

#: SillyTavern, a chat: it saves what it gets, and names the modules that Forge would load
SILLY_TAVERN = {
    "prompt": "a harbour",
    "negative_prompt": "blurry",
    "sampler_name": "Euler a",
    "scheduler": "normal",
    "steps": 3,
    "cfg_scale": 7,
    "width": 64,
    "height": 64,
    "restore_faces": False,
    "enable_hr": False,
    "hr_upscaler": "Latent",
    "hr_scale": 1,
    "hr_additional_modules": [],
    "denoising_strength": 0.7,
    "hr_second_pass_steps": 0,
    "seed": 11,
    "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "", "forge_additional_modules": []},
    "override_settings_restore_afterwards": True,
    "clip_skip": 1,
    "save_images": True,
    "send_images": True,
    "do_not_save_grid": False,
    "do_not_save_samples": False,
    "init_images": [PICTURE],
}

#: KoboldAI Lite, a page: settings of a sampler that it does not use, and whole numbers as fractions
KOBOLD_LITE = {
    "prompt": "a harbour",
    "negative_prompt": "",
    "sampler_name": "Euler a",
    "sampler_index": "Euler a",
    "batch_size": 1,
    "n_iter": 1,
    "steps": 3.0,
    "cfg_scale": 7.0,
    "width": 64.0,
    "height": 64.0,
    "seed": -1,
    "restore_faces": False,
    "tiling": False,
    "do_not_save_samples": True,
    "do_not_save_grid": True,
    "eta": 0,
    "s_churn": 0,
    "s_tmax": 0,
    "s_tmin": 0,
    "s_noise": 1,
    "override_settings": {
        "sd_model_checkpoint": "m.safetensors [0123456789]",
        "CLIP_stop_at_last_layers": 2.0,
        "eta_noise_seed_delta": 0,
        "ddim_discretize": "uniform",
        "filter_nsfw": False,
        "samples_save": True,
        "save_to_dirs": False,
        "outdir_samples": "",
        "live_previews_enable": False,
        "show_progress_every_n_steps": -1.0,
    },
    "init_images": [PICTURE],
    "denoising_strength": 0.6,
}

#: stable-diffusion-api, a package of npm's: every field, a ControlNet without units, sizes of 0
NPM = {
    "init_images": [PICTURE],
    "resize_mode": 0,
    "denoising_strength": 0.75,
    "image_cfg_scale": 1.5,
    "mask": None,
    "mask_blur": 4,
    "inpainting_fill": 0,
    "inpaint_full_res": True,
    "inpaint_full_res_padding": 0,
    "inpainting_mask_invert": 0,
    "initial_noise_multiplier": 1,
    "prompt": "a harbour",
    "styles": [],
    "seed": -1,
    "subseed": -1,
    "subseed_strength": 0,
    "seed_resize_from_h": 0,
    "seed_resize_from_w": 0,
    "sampler_name": "Euler a",
    "batch_size": 1,
    "n_iter": 1,
    "steps": 3,
    "cfg_scale": 7.0,
    "width": 64,
    "height": 64,
    "restore_faces": False,
    "tiling": False,
    "do_not_save_samples": False,
    "do_not_save_grid": False,
    "negative_prompt": "",
    "eta": 1.0,
    "s_churn": 0,
    "s_tmax": 0,
    "s_tmin": 0,
    "s_noise": 1,
    "override_settings": {},
    "override_settings_restore_afterwards": True,
    "script_args": [],
    "include_init_images": False,
    "script_name": None,
    "send_images": True,
    "save_images": False,
    "alwayson_scripts": {"ControlNet": {"args": []}},
    "use_deprecated_controlnet": False,
}

#: drawbridge, which spreads a chat's wishes over several servers: a guidance that only edit checkpoints have
DRAWBRIDGE = {
    "prompt": "a harbour",
    "negative_prompt": "",
    "seed": 5,
    "batch_size": 1,
    "n_iter": 1,
    "steps": 3,
    "cfg_scale": 7.0,
    "width": 64,
    "height": 64,
    "sampler_name": "Euler a",
    "scheduler": "Automatic",
    "denoising_strength": 0.6,
    "image_cfg_scale": 7,
    "enable_hr": False,
    "hr_scale": 1.5,
    "hr_second_pass_steps": 15,
    "hr_prompt": "",
    "hr_negative_prompt": "",
    "clip_skip": 2,
    "override_settings": {"sd_model_checkpoint": "another-checkpoint.safetensors [abcdef0123]"},
    "override_settings_restore_afterwards": False,
    "alwayson_scripts": {"ADetailer": {"args": [False]}, "Refiner": {"args": [False, "", 0.8]}},
    "script_name": "None",
    "init_images": [PICTURE],
}

#: Open WebUI: what its user has set and no more; a sampler that an old configuration has by its number
OPEN_WEBUI = {
    "prompt": "a harbour",
    "batch_size": 2,
    "width": 64,
    "height": 64,
    "steps": 3,
    "sampler_index": 0,
    "init_images": [PICTURE],
}

BODIES: dict[str, dict[str, Any]] = {
    "openOutpaint": OPEN_OUTPAINT,
    "Blender": BLENDER,
    "plug-in": PLUG_IN,
    "Discord": DISCORD,
    "Photoshop": PHOTOSHOP,
    "AIYA": AIYA,
    "SillyTavern": SILLY_TAVERN,
    "KoboldAI Lite": KOBOLD_LITE,
    "npm": NPM,
    "drawbridge": DRAWBRIDGE,
    "Open WebUI": OPEN_WEBUI,
}


GATEWAY = {"cors_origins": ("*",)}


@pytest.fixture(autouse=True)
def busy(fake_worker: FakeWorker) -> Iterator[FakeWorker]:
    with fake_worker:
        yield fake_worker


@pytest.mark.parametrize("client", BODIES)
def test_a_clients_body_is_rendered(gateway: Gateway, client: str) -> None:
    body = BODIES[client]
    answer = gateway.http.post("/sdapi/v1/img2img/", json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert len(told["images"]) == (body.get("n_iter") or 1) * (body.get("batch_size") or 1)
    for image in told["images"]:
        assert base64.b64decode(image).startswith(b"\x89PNG")
    info = json.loads(told["info"])
    assert len(info["all_seeds"]) == len(told["images"])
    sampler = body.get("sampler_name") or body["sampler_index"]
    assert info["sampler_name"] == (sampler.removesuffix(" Karras") if sampler else "DPM++ 2M")
    assert told["parameters"]["prompt"] == body["prompt"]


def test_what_changes_a_picture_reaches_the_job(gateway: Gateway) -> None:
    text = json.loads(gateway.http.post("/sdapi/v1/img2img", json=DISCORD).json()["info"])["infotexts"][1]
    for pair in ("Schedule type: Karras", "Seed: 43", "Denoising strength: 0.5", "CFG scale: 7.0"):
        assert pair in text


@pytest.mark.parametrize("client", [client for client in BODIES if client != "AIYA"])
def test_the_same_bodies_go_to_txt2img(gateway: Gateway, client: str) -> None:
    answer = gateway.http.post("/sdapi/v1/txt2img", json=BODIES[client])
    assert answer.status_code == 200, answer.text


def test_what_a_client_asks_for_in_vain_is_told_in_the_info(gateway: Gateway) -> None:
    info = json.loads(gateway.http.post("/sdapi/v1/img2img", json=DRAWBRIDGE).json()["info"])
    told = {warning.partition(":")[0] for warning in info["warnings"]}
    assert told >= {"image_cfg_scale", "sd_model_checkpoint", "clip_skip"}
    assert info["sd_model_name"] == "m"


def test_open_webui_changes_one_setting_by_sending_all_of_them_back(gateway: Gateway) -> None:
    for credentials in ("Basic ", "Basic Og=="):
        headers = {"Authorization": credentials.strip()}
        options = gateway.http.get("/sdapi/v1/options", headers=headers).json()
        options["sd_model_checkpoint"] = "m"
        assert gateway.http.post("/sdapi/v1/options", json=options, headers=headers).status_code == 200


def test_sd_backend_client_finds_a_server_and_renders(gateway: Gateway) -> None:
    backend = sd_backend_client.connect_to_backend(gateway.url)
    assert isinstance(backend, sd_backend_client.A1111Webservice)
    assert [model.hash for model in backend.get_models()] == ["0123456789"]
    assert backend.list_samplers()
    fields = {"prompt": "a cat", "steps": 3, "width": 64, "height": 64, "seed": 5}
    source = Image.open(io.BytesIO(picture()))
    mask = Image.new("L", (64, 64), 255)
    params = sd_backend_client.DiffusionParams(**fields)
    with_picture = params.model_copy(update={"init_images": [source]})
    for answer in (
        backend.submit_txt2img(params),
        backend.submit_img2img(with_picture),
        backend.submit_inpaint(with_picture.model_copy(update={"mask": mask})),
    ):
        assert [image.size for image in answer.wait(timeout=PATIENCE).images] == [(64, 64)]


def test_a_page_from_elsewhere_may_start_up(gateway: Gateway) -> None:
    def get(path: str) -> httpx.Response:
        answer = gateway.http.get(path, headers={"Origin": "http://127.0.0.1:3456"})
        assert answer.headers["access-control-allow-origin"] == "*"
        return answer

    assert "use_scale_latent_for_hires_fix" not in get("/sdapi/v1/options").json()
    assert get("/sdapi/v1/prompt-styles").json() == []
    assert "DDIM" in [each["name"] for each in get("/sdapi/v1/samplers").json()]
    assert [each["title"] for each in get("/sdapi/v1/sd-models").json()] == ["m [0123456789]"]
    assert "Lanczos" in [each["name"] for each in get("/sdapi/v1/upscalers").json()]
    assert get("/sdapi/v1/progress?skip_current_image=true").json()["state"]["job_count"] == 0
    changed = gateway.http.post("/sdapi/v1/options", json={"sd_model_checkpoint": "m"})
    assert changed.json() == {}


def test_the_photoshop_plug_in_starts_renders_and_stops(gateway: Gateway) -> None:
    def get(path: str) -> Any:
        answer = gateway.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    # at its start; what belongs to extensions it takes for missing by a 404
    assert "Euler a" in [each["name"] for each in get("/sdapi/v1/samplers")]
    titles = [each["title"] for each in get("/sdapi/v1/sd-models")]
    assert get("/sdapi/v1/loras") == []
    assert get("/sdapi/v1/embeddings")["loaded"] == {}
    assert get("/sdapi/v1/upscalers")
    weight = gateway.http.post("/sdapi/v1/options", json={"inpainting_mask_weight": 1.0})
    assert weight.status_code == 200
    options = get("/sdapi/v1/options")
    assert options["sd_model_checkpoint"] in titles
    assert (options["inpainting_mask_weight"], options["sd_vae"]) == (1, "Automatic")
    assert get("/controlnet/settings")
    missing = gateway.http.get("/sdapi/auto-photoshop-sd/vae/list")
    assert missing.status_code == 404
    assert missing.json()

    # a text to a picture: the same body without a picture
    text_only = {name: value for name, value in PHOTOSHOP.items() if name not in ("init_images", "mask")}
    text_only |= {"mode": "txt2img", "seed": "-1"}
    images = gateway.http.post("/sdapi/v1/txt2img", json=text_only).json()["images"]
    images += gateway.http.post("/sdapi/v1/img2img", json=PHOTOSHOP).json()["images"]
    assert len(images) == 4

    # it asks for each picture's text, and reads its last line at the commas and colons
    seeds = []
    for image in images:
        png_info = {"image": "data:image/png;base64," + image}
        info = gateway.http.post("/sdapi/v1/png-info", json=png_info).json()["info"]
        last = dict(pair.split(":", 1) for pair in info.rpartition("\n")[2].split(","))
        seeds.append(int(last[" Seed"]))
    assert seeds[2:] == [1234, 1235]

    assert get("/sdapi/v1/progress?skip_current_image=false")["progress"] == 0
    stopped = gateway.http.post("/sdapi/v1/interrupt", headers={"Content-Type": "application/json"})
    assert (stopped.status_code, stopped.json()) == (200, {})


def test_the_bot_starts_and_draws(gateway: Gateway) -> None:
    # whether it is there, and wants a password; a page to log in at there need not be
    assert gateway.http.get("/sdapi/v1/cmd-flags").status_code == 200
    assert gateway.http.head("/").status_code < 500
    assert gateway.http.post("/login").status_code == 404
    lists = {
        name: gateway.http.get(f"/sdapi/v1/{name}").json()
        for name in (
            *("samplers", "prompt-styles", "face-restorers", "embeddings", "hypernetworks"),
            *("upscalers", "sd-models"),
        )
    }
    assert lists["embeddings"].keys() == {"loaded", "skipped"}
    (model,) = lists["sd-models"]
    assert model.keys() >= {"title", "model_name", "hash", "filename"}
    for name in ("samplers", "prompt-styles", "face-restorers", "hypernetworks", "upscalers"):
        assert all(each["name"] for each in lists[name])
    assert gateway.http.get("/config").json()  # Gradio's; without its "components" the bot goes on

    chosen = gateway.http.post("/sdapi/v1/options", json={"sd_model_checkpoint": model["title"]})
    assert chosen.status_code == 200
    drawing = {name: value for name, value in AIYA.items() if name not in ("init_images", "enable_hr")}
    answer = gateway.http.post("/sdapi/v1/txt2img", json={**drawing, "denoising_strength": None})
    assert len(answer.json()["images"]) == 2
    for image in gateway.http.post("/sdapi/v1/img2img", json=AIYA).json()["images"]:
        read = gateway.http.post("/sdapi/v1/png-info", json={"image": "data:image/png;base64," + image})
        assert read.json()["info"].startswith("a harbour\n")
