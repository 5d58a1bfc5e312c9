"""The gateway before a real worker: what comes out is what the farm renders."""

import base64
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webuiapi
from PIL import Image, ImageChops
from safetensors.torch import save_file

from img2img_producer import Picture
from img2img_shared.params import Params
from img2img_worker.models.upscalers.upscalers import Upscalers
from img2img_worker.pictures.upscale import upscale
from tests import upscalers as tiny_upscalers
from tests.checkpoints import cached, sd1
from tests.eventually import eventually
from tests.faults.farm import LEASE, FaultyFarm, ForkServer, picture
from tests.integration.gateway import Gateway
from tests.servers import free_port, scraped
from tests.unit.control_files import control_net, write_original
from tests.unit.image_prompt_files import clip_vision, image_prompt, write_clip_vision, write_safetensors
from tests.unit.pose_files import write_poses

#: what the real extension has made
EXTENSION = Path(__file__).parents[1] / "unit" / "a1111"
#: where the worker shows what it counts
METRICS = f"127.0.0.1:{free_port()}"
SMALL: dict[str, Any] = {"steps": 4, "width": 64, "height": 64, "seed": 3, "cfg_scale": 2.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("ink", "gold"):
        file = folder / "Lora" / f"{name}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    control = folder / "ControlNet" / "control_sd15_edges.safetensors"
    control.parent.mkdir()
    write_original(control_net(cached(tmp_path_factory, sd1), seed=3), control)
    write_safetensors(
        image_prompt(cached(tmp_path_factory, sd1), seed=4), control.parent / "ip-adapter.safetensors"
    )
    write_clip_vision(clip_vision(7), folder / "clip_vision" / "clip_h.safetensors")
    write_poses(folder, 38)
    (folder / "annotators" / "openpose" / "hand_pose_model.safetensors").unlink()
    (folder / "embeddings").mkdir()
    vectors = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    save_file({"emb_params": vectors}, folder / "embeddings" / "Moss-v2.safetensors")
    tiny_upscalers.save(folder / "ESRGAN", "tiny-4x.pth", tiny_upscalers.esrgan())
    return folder


@pytest.fixture(scope="module")
def farm(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyFarm]:
    fork_server = ForkServer()
    folder = tmp_path_factory.mktemp("farm")
    environment = {
        "IMG2IMG_PREVIEW_SECONDS": "0.02",
        "IMG2IMG_MODELS_DIR": str(models),
        "IMG2IMG_METRICS": METRICS,
    }
    with FaultyFarm(folder, fork_server, cached(tmp_path_factory, sd1)) as farm:
        farm.worker(environment=environment)
        eventually("the worker is there", farm.producer.workers)
        yield farm
    fork_server.close()


@pytest.fixture(scope="module")
def gateway(farm: FaultyFarm) -> Iterator[Gateway]:
    with Gateway(farm.server.url, farm.store_url, lease=LEASE) as gateway:
        yield gateway


@pytest.fixture
def api(gateway: Gateway) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(host="127.0.0.1", port=gateway.port)


def pixels(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image.convert("RGB")


def rendered(farm: FaultyFarm, inputs: list[Picture], **params: object) -> list[Image.Image]:
    job = farm.producer.submit(inputs, model=farm.model, params=dict(params))
    farm.done(job)
    found = farm.pictures(job)
    assert found, farm.reasons(job)
    return [pixels(found[index]) for index in sorted(found)]


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def test_a_worker_shows_what_it_does(farm: FaultyFarm) -> None:
    model = ("model", farm.model)
    before = scraped(METRICS)
    rendered(farm, [Picture(image=picture(number)) for number in range(3)], **SMALL)
    found = scraped(METRICS)

    def more(name: str, *labels: tuple[str, str]) -> float:
        key = (name, *sorted((model, *labels)))
        return found[key] - before.get(key, 0.0)

    assert more("img2img_images_total", ("outcome", "done"), ("tenant", "default")) == 3
    for stage in ("waiting", "preparing", "encoding", "steps", "decoding", "storing"):
        assert more("img2img_image_stage_seconds_count", ("stage", stage)) == 3
    assert more("img2img_engine_steps_total") == 3 * 4
    assert more("img2img_engine_rows_total", ("kind", "image")) == 3 * 4 * 2
    assert found["img2img_engine_slots", ("kind", "all"), model] == 2
    assert found["img2img_worker_in_service", model] == 1
    assert found["img2img_ledger_call_seconds_count", ("call", "claim")] >= 3


def test_webuiapi_gets_the_pictures_that_the_farm_renders(farm: FaultyFarm, api: webuiapi.WebUIApi) -> None:
    source = picture(1)
    result = api.img2img(images=[pixels(source)], prompt="a cat", denoising_strength=0.6, n_iter=2, **SMALL)
    direct = rendered(
        farm,
        [Picture(image=source)],
        prompt="a cat",
        denoising_strength=0.6,
        images_per_input=2,
        sampler_name="Euler a",
        **SMALL,
    )
    assert [same(one, other) for one, other in zip(result.images, direct, strict=True)] == [True, True]
    assert result.info["all_seeds"] == [3, 4]
    assert "Sampler: Euler a" in result.info["infotexts"][0]
    assert result.image.info["parameters"] == result.info["infotexts"][0]
    assert result.info["sd_model_name"] == Path(farm.model).name


def test_webuiapis_upscale_script_renders_the_farms_tiles(farm: FaultyFarm, api: webuiapi.WebUIApi) -> None:
    source = picture(1)
    arguments = ["", 16, "Lanczos", 2.0]
    result = api.img2img(
        images=[pixels(source)],
        denoising_strength=0.3,
        script_name="SD upscale",
        script_args=arguments,
        **SMALL,
    )
    upscale = {"sd_upscale_upscaler": "Lanczos", "sd_upscale_overlap": 16, "sampler_name": "Euler a"}
    wanted = {"denoising_strength": 0.3, "sd_upscale": True, **upscale, **SMALL}
    (direct,) = rendered(farm, [Picture(image=source)], **wanted)
    assert result.image.size == (128, 128)
    assert same(result.image, direct)


def test_inpainting_keeps_what_is_not_masked(api: webuiapi.WebUIApi) -> None:
    source = pixels(picture(2))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    result = api.img2img(
        images=[source], mask_image=mask, mask_blur=0, inpaint_full_res=False, denoising_strength=0.9, **SMALL
    )
    left = (0, 0, 32, 64)
    assert same(result.image.convert("RGB").crop(left), source.crop(left))
    assert not same(result.image.convert("RGB"), source)


def test_the_loras_that_prompts_may_name_are_listed(api: webuiapi.WebUIApi) -> None:
    listed = eventually("the worker has said which it has", api.get_loras)
    assert listed == [{"name": name, "alias": name, "path": name, "metadata": {}} for name in ("gold", "ink")]


def test_webuiapis_prompts_name_textual_inversions(api: webuiapi.WebUIApi) -> None:
    listed = eventually("the worker has said which it has", lambda: api.get_embeddings()["loaded"])
    assert listed["Moss-v2"]["vectors"] == 2
    source = pixels(picture(1))
    named, plain = (
        api.img2img(images=[source], prompt=f"a {word} cat", denoising_strength=0.6, **SMALL)
        for word in ("(moss-v2:1.3)", "(moss v2:1.3)")
    )
    assert not same(named.image.convert("RGB"), plain.image.convert("RGB"))
    assert 'TI hashes: "Moss-v2: ' in named.info["infotexts"][0]
    assert "TI hashes" not in plain.info["infotexts"][0]


def test_webuiapis_control_units_hold_a_render_to_their_pictures(
    farm: FaultyFarm, api: webuiapi.WebUIApi
) -> None:
    eventually("the worker has said what it has", api.controlnet_model_list)
    title, _ = api.controlnet_model_list()
    source, shown = picture(1), picture(2)
    units = [
        webuiapi.ControlNetUnit(image=pixels(shown), module="canny", model="edges", processor_res=64),
        webuiapi.ControlNetUnit(module="invert", model=title, weight=0.5, hr_option="Both"),
    ]
    plain = api.img2img(images=[pixels(source)], **SMALL)
    # a map of its own: this client keeps what is put into its default one
    result = api.img2img(images=[pixels(source)], controlnet_units=units, alwayson_scripts={}, **SMALL)
    found, edges, inverted = (image.convert("RGB") for image in result.images)
    assert not same(found, plain.image.convert("RGB"))
    assert same(inverted, ImageChops.invert(pixels(source)))
    assert {colour for _, colour in edges.getcolors()} == {(0, 0, 0), (255, 255, 255)}
    assert 'ControlNet 1: "Module: invert' in result.info["infotexts"][0]
    with pytest.raises(RuntimeError, match=r"control_sd15_edges \["):
        api.img2img(
            images=[pixels(source)],
            controlnet_units=[webuiapi.ControlNetUnit(model="pose")],
            alwayson_scripts={},
            **SMALL,
        )


def test_webuiapis_control_units_let_a_render_see_a_picture_by_an_ip_adapter(api: webuiapi.WebUIApi) -> None:
    eventually("the worker has said what it has", api.controlnet_model_list)
    source, shown = picture(1), picture(2)

    def rendered(*units: webuiapi.ControlNetUnit) -> Any:
        return api.img2img(images=[pixels(source)], controlnet_units=[*units], alwayson_scripts={}, **SMALL)

    seeing = {"image": pixels(shown), "model": "ip-adapter"}
    result = rendered(webuiapi.ControlNetUnit(module="ip-adapter-auto", **seeing))
    found, told = (image.convert("RGB") for image in result.images)
    assert not same(found, rendered().image.convert("RGB"))
    assert same(told, pixels(shown))
    assert 'ControlNet 0: "Module: ip-adapter-auto, Model: ip-adapter,' in result.info["infotexts"][0]
    refusals = {
        "ip-adapter_clip_g": "clip_vision/clip_g",
        "ip-adapter_face_id": "insightface",
        "none": "auto",
    }
    for module, words in refusals.items():
        with pytest.raises(RuntimeError, match=words):
            rendered(webuiapi.ControlNetUnit(module=module, **seeing))


def test_preprocessors_run_without_a_render(api: webuiapi.WebUIApi) -> None:
    shown = pixels(picture(2))
    sent = {"controlnet_input_images": [webuiapi.raw_b64_img(shown)] * 2}

    def detect(module: str) -> Any:
        return api.custom_post("controlnet/detect", payload={"controlnet_module": module, **sent})

    found = detect("invert").images
    assert [same(each.convert("RGB"), ImageChops.invert(shown)) for each in found] == [True, True]
    refused = {
        "nonsense": "Module not available",
        "ip-adapter_clip_sd15": "Module not supported",
        "depth_leres": "it needs weights of its own",
        "openpose_hand": r"put annotators/hand_pose_model\.safetensors, or \.pth",
    }
    for module, words in refused.items():
        with pytest.raises(RuntimeError, match=words):
            detect(module)


def test_detect_tells_the_poses_that_it_draws_as_the_extension_does(api: webuiapi.WebUIApi) -> None:
    drawn = np.load(EXTENSION / "control_poses.npz")
    sent = {
        "controlnet_module": "openpose",
        "controlnet_input_images": [webuiapi.raw_b64_img(Image.fromarray(drawn["picture 38"]))],
        "controlnet_processor_res": 64,
    }
    found = api.custom_post("controlnet/detect", payload=sent)
    told = json.loads((EXTENSION / "control_poses.json").read_text())["openpose_full 38"]
    wanted = [person["pose_keypoints_2d"] for person in told["people"]]
    (poses,) = found.json["poses"]
    bodies = [person["pose_keypoints_2d"] for person in poses["people"]]
    assert np.allclose(bodies, wanted, atol=1e-5)
    assert [person["face_keypoints_2d"] for person in poses["people"]] == [None] * len(wanted)
    difference = np.array(found.image, np.float32) - drawn["openpose 38"]
    assert np.abs(difference).mean() < 0.05


def test_webuiapi_enlarges_pictures_by_the_networks_that_workers_have(
    models: Path, api: webuiapi.WebUIApi
) -> None:
    def names() -> list[str]:
        return [each["name"] for each in api.get_upscalers()]

    eventually("the worker has said which it has", lambda: "tiny-4x" in names())
    source = pixels(picture(3)).crop((0, 0, 40, 24))
    result = api.extra_single_image(source, upscaler_1="tiny-4x", upscaling_resize=2)
    upscalers = Upscalers(models, torch.device("cpu"))
    expected = upscale(source, 2, "tiny-4x", lambda name, image: upscalers.enlarge(name, image, Params()))
    assert same(result.image, expected)
    assert result.info == "<p>Postprocess upscale by: 2.0, Postprocess upscaler: tiny-4x</p>"
    both = api.extra_batch_images([source, source.rotate(90)], ["a.png", "b.png"], upscaler_1="Nearest")
    assert same(both.images[0], source.resize((80, 48), Image.Resampling.NEAREST))
    assert len(both.images) == 2


def test_extras_share_a_worker_with_renders(farm: FaultyFarm) -> None:
    source = picture(4)
    jobs = [
        farm.producer.submit(source, extras=True, upscaler_1="tiny-4x"),
        farm.producer.submit(source, prompt="a cat", **SMALL),
        farm.producer.submit(source, extras=True, upscaler_1="Lanczos", upscaling_resize=3),
    ]
    results = [result for job in jobs for result in farm.producer.results(job)]
    sizes = [Image.open(io.BytesIO(result.read())).size for result in results]
    side = pixels(source).width
    assert sizes == [(2 * side, 2 * side), (64, 64), (3 * side, 3 * side)]


def test_txt2img_starts_from_noise_and_nothing_else(farm: FaultyFarm, api: webuiapi.WebUIApi) -> None:
    result = api.txt2img(prompt="a cat", **SMALL)
    assert not same(result.image.convert("RGB"), api.txt2img(prompt="a cat", **{**SMALL, "seed": 4}).image)
    white = io.BytesIO()
    Image.new("L", (64, 64), 255).save(white, "PNG")
    # whatever picture it is laid over, the first latent is the noise alone
    (other,) = rendered(
        farm,
        [Picture(image=picture(7), mask=white.getvalue())],
        prompt="a cat",
        denoising_strength=1.0,
        inpainting_fill=3,
        inpaint_full_res=False,
        mask_blur=0,
        sampler_name="Euler a",
        **SMALL,
    )
    assert same(result.image.convert("RGB"), other)


def test_progress_moves_within_one_image(gateway: Gateway) -> None:
    source = base64.b64encode(picture(3)).decode()
    body = {"init_images": [source], **SMALL, "steps": 150, "denoising_strength": 1, "sampler_name": "Heun"}
    # so slow that it ends only by the interruption, once its progress was seen
    body |= {"n_iter": 1, "width": 256, "height": 256}

    def under_way() -> dict[str, Any] | None:
        told: dict[str, Any] = gateway.http.get("/sdapi/v1/progress?skip_current_image=true").json()
        return told if told["state"]["sampling_step"] else None

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(gateway.http.post, "/sdapi/v1/img2img", json=body)
        told = eventually("a step is seen", under_way)
        assert gateway.http.post("/sdapi/v1/interrupt").json() == {}
        answer = call.result()
    assert [pixels(base64.b64decode(each)).size for each in answer.json()["images"]] == [(256, 256)]
    assert told["state"]["job_no"] == 0
    assert told["eta_relative"] > 0
    assert 0 < told["state"]["sampling_step"] <= told["state"]["sampling_steps"] == 150
    assert 0.01 < told["progress"] < 1


def test_a_refused_picture_is_told_with_the_workers_reason(api: webuiapi.WebUIApi, gateway: Gateway) -> None:
    body = {"init_images": ["QUJD"], "width": 64, "height": 64, "steps": 2}
    answer = gateway.http.post("/sdapi/v1/img2img", json=body)
    assert answer.status_code == 422
    assert "image" in answer.json()["detail"]
