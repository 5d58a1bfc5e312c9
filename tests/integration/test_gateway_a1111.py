"""A1111's API: its calls, its answers, its refusals, and a client of its own from PyPI."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import webuiapi
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from redis import Redis

from img2img_gateway.app import create_app
from img2img_gateway.async_farm import THREADS
from img2img_gateway.gateway_settings import GatewaySettings
from img2img_gateway.sdapi.unavailable import REASONS
from img2img_shared.errors import Refused, StoreError
from img2img_shared.job import inputs_key, result_key
from img2img_shared.ledger.file_names import FileKind, FileNames
from img2img_shared.ledger.inversion_names import InversionInfo, InversionNames
from img2img_shared.ledger.lora_names import LoraNames
from img2img_shared.ledger.previews import Previews
from img2img_shared.param_fields import SOFT_FIELDS
from img2img_shared.records import WorkerInfo
from img2img_shared.samplers import SAMPLERS, SCHEDULERS
from img2img_shared.seeds import control_seed
from img2img_shared.store import Store
from img2img_shared.wire import decode_inputs
from tests.eventually import eventually
from tests.integration.gateway import Callers, FakeWorker, Gateway, picture

SMALL = {"width": 64, "height": 64, "steps": 4}
GATEWAY = {"keep_alive": 0.3}


def encoded(number: int = 0) -> str:
    return base64.b64encode(picture(number)).decode()


def with_texts(**texts: str) -> str:
    """A PNG with texts, in base64."""
    chunks, data = PngInfo(), io.BytesIO()
    for name, text in texts.items():
        chunks.add_text(name, text)
    Image.new("RGB", (24, 16)).save(data, "PNG", pnginfo=chunks)
    return base64.b64encode(data.getvalue()).decode()


@pytest.fixture
def busy(fake_worker: FakeWorker) -> Iterator[FakeWorker]:
    with fake_worker:
        yield fake_worker


@pytest.fixture
def pool(fake_worker: FakeWorker) -> Iterator[Callers]:
    with Callers(fake_worker) as pool:
        yield pool


def render(gateway: Gateway, **fields: Any) -> httpx.Response:
    body = {"init_images": [encoded()], **SMALL, **fields}
    return gateway.http.post("/sdapi/v1/img2img", json=body)


def refused(gateway: Gateway, **fields: Any) -> dict[str, Any]:
    answer = render(gateway, **fields)
    assert answer.status_code == 422, answer.text
    facts: dict[str, Any] = answer.json()
    assert facts["error"]
    assert facts["detail"] == facts["errors"]
    return facts


def test_img2img_answers_with_pictures_the_request_and_what_was_done(
    gateway: Gateway, busy: FakeWorker
) -> None:
    answer = render(gateway, prompt="a cat", seed=7, n_iter=2, batch_size=2).json()
    assert [image_of(each).size for each in answer["images"]] == [(64, 64)] * 4
    info = json.loads(answer["info"])
    assert info["all_seeds"] == [7, 8, 9, 10]
    assert sorted(busy.seeds) == [7, 8, 9, 10]
    assert info["all_prompts"] == ["a cat"] * 4
    assert info["index_of_first_image"] == 0
    assert [
        f"Seed: {seed}" in text for seed, text in zip(info["all_seeds"], info["infotexts"], strict=True)
    ] == [True] * 4
    assert info["sd_model_name"] == "m"
    assert info["sd_model_hash"] == "0123456789"
    assert answer["parameters"]["prompt"] == "a cat"
    assert answer["parameters"]["cfg_scale"] == 7.0
    assert answer["parameters"]["init_images"] is None
    assert answer["parameters"]["include_init_images"] is False


def test_an_answer_breaks_off_without_a_traceback_when_the_store_fails_in_the_middle(
    gateway: Gateway,
    busy: FakeWorker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    get, seen = Store.get, set()

    def get_once(store: Store, key: str) -> bytes:
        if key in seen:  # the first look is for what the answer says of its pictures
            raise StoreError(f"cannot read {key} in /mnt: gone", transient=True)
        if key.endswith(".png"):
            seen.add(key)
        return get(store, key)

    monkeypatch.setattr(Store, "get", get_once)
    with pytest.raises(httpx.RemoteProtocolError):
        render(gateway)
    told = eventually(
        "the log says so", lambda: [each for each in caplog.records if "broke off" in each.message]
    )
    assert "the answer to POST /sdapi/v1/img2img broke off: cannot read jobs/" in told[0].message
    assert [each for each in caplog.records if each.exc_info] == []


#: of A1111 v1.10.1: the defaults of a request's fields, and the types of what `info` holds
A1111: dict[str, Any] = json.loads(Path(__file__).with_name("a1111_answers.json").read_text())


@pytest.mark.parametrize("route", ["img2img", "txt2img"])
def test_the_request_is_told_with_a1111s_fields_and_defaults(
    gateway: Gateway, busy: FakeWorker, route: str
) -> None:
    sent: dict[str, Any] = {"init_images": [encoded()]} if route == "img2img" else {}
    answer = gateway.http.post(f"/sdapi/v1/{route}", json={**sent, **SMALL})
    assert answer.status_code == 200, answer.text
    told = answer.json()["parameters"]
    expected = {**A1111["fields"][route], **SMALL}
    assert told == expected
    assert {name: type(value) for name, value in told.items()} == {
        name: type(value) for name, value in expected.items()
    }


def test_the_info_has_a1111s_names_and_types(gateway: Gateway, busy: FakeWorker) -> None:
    fields = {"subseed_strength": 0.5, "scheduler": "Karras", "denoising_strength": 1, "cfg_scale": 5}
    info = info_of(render(gateway, **fields))
    assert {name: type(value).__name__ for name, value in info.items()} == A1111["info"]
    assert info["extra_generation_params"] == {"Denoising strength": 1.0, "Schedule type": "Karras"}
    masked = {"mask": encoded(), "mask_blur_x": 2, "inpaint_full_res_padding": 8, "sampler_name": "DDIM"}
    extra = info_of(render(gateway, **masked))["extra_generation_params"]
    assert extra.pop("Mask blur") is None
    assert extra == {
        "Denoising strength": 0.75,
        "Inpaint area": "Only masked",
        "Masked area padding": 8,
        "Masked content": "fill",
    }


def test_what_was_sent_as_null_is_told_as_null(gateway: Gateway, busy: FakeWorker) -> None:
    told = render(gateway, seed=None, cfg_scale=None, eta=None).json()["parameters"]
    assert (told["seed"], told["cfg_scale"], told["eta"]) == (None, None, None)


def test_fewer_pictures_than_the_batch_leave_seeds_over(gateway: Gateway, busy: FakeWorker) -> None:
    answer = render(gateway, init_images=[encoded(1), encoded(2)], batch_size=3, seed=7)
    assert info_of(answer)["batch_size"] == 2
    assert info_of(answer)["all_seeds"] == [7, 8, 9]
    assert len(answer.json()["images"]) == 2


def test_a_drawn_seed_is_told(gateway: Gateway, busy: FakeWorker) -> None:
    info = json.loads(render(gateway).json()["info"])
    assert info["seed"] == busy.seeds[0] >= 0


def test_a_subseed_strength_counts_up_the_subseed(gateway: Gateway, busy: FakeWorker) -> None:
    answer = render(gateway, seed=5, subseed=9, subseed_strength=0.5, n_iter=2).json()
    info = json.loads(answer["info"])
    assert (info["all_seeds"], info["all_subseeds"]) == ([5, 5], [9, 10])
    assert "Variation seed: 10" in info["infotexts"][1]


def test_a_batch_of_different_pictures_gives_one_output_for_each(gateway: Gateway, busy: FakeWorker) -> None:
    answer = render(gateway, init_images=[encoded(1), encoded(2)], batch_size=3, n_iter=2, seed=1).json()
    assert len(answer["images"]) == 4
    assert sorted(busy.seeds) == [1, 2, 3, 4]


def test_more_pictures_than_the_batch_are_refused(gateway: Gateway, busy: FakeWorker) -> None:
    assert refused(gateway, init_images=[encoded(1), encoded(2)])["field"] == "init_images"


def test_the_request_is_given_back_with_its_pictures_if_asked(gateway: Gateway, busy: FakeWorker) -> None:
    answer = render(gateway, include_init_images=True).json()
    assert answer["parameters"]["init_images"] == [encoded()]


def test_pictures_are_left_out_if_asked(gateway: Gateway, busy: FakeWorker) -> None:
    answer = render(gateway, send_images=False).json()
    assert answer["images"] == []
    assert json.loads(answer["info"])["infotexts"]


def test_saved_pictures_of_one_call_come_with_a_grid_before_them(gateway: Gateway, busy: FakeWorker) -> None:
    answer = render(gateway, save_images=True, n_iter=3, seed=10).json()
    sizes = [image_of(each).size for each in answer["images"]]
    assert sizes == [(128, 128), (64, 64), (64, 64), (64, 64)]
    info = json.loads(answer["info"])
    assert info["index_of_first_image"] == 1
    assert info["infotexts"][0] == info["infotexts"][1]
    assert len(info["infotexts"]) == 4
    sheet = image_of(answer["images"][0])
    assert sheet.text["parameters"] == info["infotexts"][0]  # type: ignore[attr-defined]
    places = ((0, 0), (64, 0), (0, 64))
    assert [sheet.getpixel(at) for at in places] == [(seed, 0, 0, 255) for seed in (10, 11, 12)]
    assert sheet.getpixel((64, 64)) == (255, 255, 255, 255)


@pytest.mark.parametrize(
    "fields",
    [
        {"save_images": True},
        {"n_iter": 3},
        {"save_images": True, "n_iter": 3, "override_settings": {"return_grid": False}},
    ],
)
def test_a_grid_is_given_only_where_a1111_gives_one(
    gateway: Gateway, busy: FakeWorker, fields: dict[str, Any]
) -> None:
    answer = render(gateway, **fields).json()
    assert len(answer["images"]) == fields.get("n_iter", 1)
    assert json.loads(answer["info"])["index_of_first_image"] == 0


def test_what_is_given_beside_a_masked_picture_comes_behind_it(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers, store: Path
) -> None:
    override = {"return_mask": True, "return_mask_composite": True}
    call = pool.submit(render, gateway, mask=encoded(), batch_size=2, override_settings=override)
    sent = []
    for _ in range(2):
        claim = fake_worker.await_claim()
        beside = {name: picture(claim.index + 50, 32) for name in ("mask", "mask-composite")}
        for name, data in beside.items():
            fake_worker.store.put(result_key(claim.job_id, claim.index, "png", name), data)
        sent += [fake_worker.end(claim), *beside.values()]
    answer = call.result().json()
    assert [base64.b64decode(image) for image in answer["images"]] == sent
    assert len(json.loads(answer["info"])["infotexts"]) == 2
    eventually("nothing is kept", lambda: not list(store.rglob("jobs/*/*.png")))


def test_the_store_keeps_only_pictures_that_were_to_be_saved(
    gateway: Gateway, busy: FakeWorker, store: Path
) -> None:
    render(gateway)
    eventually("nothing is kept", lambda: not list(store.rglob("jobs/*/0.png")))
    render(gateway, save_images=True)
    assert len(list(store.rglob("jobs/*/0.png"))) == 1


def test_a_data_url_is_a_picture_too(gateway: Gateway, busy: FakeWorker) -> None:
    assert render(gateway, init_images=["data:image/png;base64," + encoded()]).status_code == 200


def test_what_preprocessors_draw_is_that_of_the_first_iteration(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    unit = {"enabled": True, "module": "shuffle", "model": "edges", "save_detected_map": False}
    scripts = {"controlnet": {"args": [unit]}}
    for own, expected in (({}, 6), ({"subseed": 7}, 10), ({"subseed": 7, "subseed_strength": 0.5}, 10)):
        call = pool.submit(render, gateway, seed=3, n_iter=2, alwayson_scripts=scripts, **own)
        claims = [fake_worker.await_claim() for _ in range(2)]
        found = [fake_worker.ledger.job(claim.job_id, "default").params for claim in claims]
        assert {control_seed(each.seed, each.control_subseed) for each in found} == {expected}
        for claim in claims:
            fake_worker.end(claim)
        assert call.result().status_code == 200


def test_latent_noise_under_a_mask_is_that_of_the_first_iteration(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    for strength, expected in ((0, [0, -2]), (0.5, [0, 0])):
        fields = {"inpainting_fill": 2, "n_iter": 2, "batch_size": 2, "subseed_strength": strength}
        call = pool.submit(render, gateway, mask=encoded(3), seed=-3, **fields)
        claims = [fake_worker.await_claim() for _ in range(4)]
        jobs = [fake_worker.ledger.job(job_id, "default") for job_id in {claim.job_id for claim in claims}]
        assert sorted((job.params.fill_noise_seed_delta for job in jobs), reverse=True) == expected
        if not strength:  # the second begins with -1, which it is called in the text, too
            assert sorted(job.seeds(0)[0] for job in jobs) == [-3, -1]
        for claim in claims:
            fake_worker.end(claim)
        seeds = json.loads(call.result().json()["info"])["all_seeds"]
        assert seeds == ([-3] * 4 if strength else [-3, -2, -1, 0])


def test_a_mask_and_its_parameters_reach_the_job(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    call = pool.submit(render, gateway, mask=encoded(3), mask_blur=2, inpainting_fill=1)
    claim = fake_worker.await_claim()
    job = fake_worker.ledger.job(claim.job_id, "default")
    assert fake_worker.store.get(job.pictures["mask"]) == picture(3)
    assert (job.params.mask_blur_x, job.params.mask_blur_y, job.params.inpainting_fill) == (2, 2, 1)
    fake_worker.end(claim)
    assert call.result().status_code == 200


@pytest.mark.parametrize(
    ("arguments", "set_to"),
    [
        ([True, 2, 1.0, 8, 0.5, 1, 4, "more"], (2, 1.0, 8, 0.5, 1, 4)),
        ([1, 2], (2, 0.5, 4, 0, 0.5, 2)),
        ({"Soft inpainting": True, "Mask influence": 0.25}, (1, 0.5, 4, 0.25, 0.5, 2)),
        ([{"Soft inpainting": True, "Mask influence": 0.25}], (1, 0.5, 4, 0, 0.5, 2)),
    ],
)
def test_soft_inpainting_takes_its_values_by_position_or_by_label(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers, arguments: Any, set_to: tuple[float, ...]
) -> None:
    scripts = {"Soft Inpainting": {"args": arguments}}
    call = pool.submit(render, gateway, mask=encoded(3), alwayson_scripts=scripts)
    claim = fake_worker.await_claim()
    params = fake_worker.ledger.job(claim.job_id, "default").params
    assert params.soft_inpainting
    assert repr(tuple(getattr(params, name) for name in SOFT_FIELDS)) == repr(set_to), "1 stays 1, 1.0 is 1.0"
    fake_worker.end(claim)
    assert call.result().status_code == 200


def test_soft_inpainting_is_listed_with_its_arguments_as_a1111_lists_it(gateway: Gateway) -> None:
    names = gateway.http.get("/sdapi/v1/scripts").json()
    of_both = ["prompt matrix", "prompts from file or textbox"]
    assert names == {
        "txt2img": [*of_both, "x/y/z plot", "controlnet"],
        "img2img": [
            "loopback",
            "outpainting mk2",
            "poor man's outpainting",
            *of_both,
            "sd upscale",
            "x/y/z plot",
            "soft inpainting",
            "controlnet",
        ],
    }
    always_on = [each for each in gateway.http.get("/sdapi/v1/script-info").json() if each["is_alwayson"]]
    of_txt2img, info, of_img2img = always_on
    assert [each["is_img2img"] for each in (of_txt2img, of_img2img)] == [False, True]
    assert of_img2img["args"][2]["value"]["control_mode"] == "Balanced"
    assert (info["name"], info["is_alwayson"], info["is_img2img"]) == ("soft inpainting", True, True)
    told = [
        [each[name] for name in ("label", "value", "minimum", "maximum", "step")] for each in info["args"]
    ]
    assert told[0] == ["Soft inpainting", False, None, None, None]
    assert told[3] == ["Transition contrast boost", 4, 1, 32, 0.5]
    txt2img = {**SMALL, "alwayson_scripts": {"soft inpainting": {"args": [True]}}}
    assert gateway.http.post("/sdapi/v1/txt2img", json=txt2img).json()["field"] == "alwayson_scripts"


def test_soft_inpainting_is_read_from_an_infotext_and_means_nothing_without_a_mask(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    text = "x\nSteps: 4, Sampler: Euler, Size: 64x64, Soft inpainting enabled: True, "
    text += "Soft inpainting schedule bias: 2, Soft inpainting mask influence: 0.3"
    for mask, expected in ((encoded(3), (True, 2, 0.3)), (None, (False, 1, 0))):
        call = pool.submit(render, gateway, mask=mask, infotext=text)
        claim = fake_worker.await_claim()
        params = fake_worker.ledger.job(claim.job_id, "default").params
        told = params.soft_inpainting, params.mask_blend_power, params.composite_mask_influence
        assert told == expected
        fake_worker.end(claim)
        assert call.result().status_code == 200


def test_options_of_a_sampler_that_has_none_change_nothing(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    unused = {"s_tmax": 0, "image_cfg_scale": 1.5, "distilled_cfg_scale": 3.5}
    call = pool.submit(render, gateway, sampler_name="Euler", eta=1.0, **unused)
    claim = fake_worker.await_claim()
    params = fake_worker.ledger.job(claim.job_id, "default").params
    assert (params.eta, params.s_tmax, params.image_cfg_scale) == (None, None, None)
    assert params.distilled_cfg_scale is None
    fake_worker.end(claim)
    assert call.result().status_code == 200


@pytest.mark.parametrize("name", ["automatic", "Automatic", "AUTOMATIC"])
def test_the_automatic_scheduler_is_known_in_any_case(gateway: Gateway, busy: FakeWorker, name: str) -> None:
    assert render(gateway, scheduler=name).status_code == 200


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"script_name": "no such script"}, "script_name"),
        ({"alwayson_scripts": {"ADetailer": {"args": [{"ad_model": "x"}]}}}, "alwayson_scripts"),
        (
            {"alwayson_scripts": {"Soft inpainting": {"args": [True, "1"]}}},
            "alwayson_scripts.soft inpainting.Schedule bias",
        ),
        ({"refiner_checkpoint": "xl-refiner", "refiner_switch_at": 2}, "refiner_switch_at"),
        ({"latent_mask": "x", "mask": "x"}, "latent_mask"),
        ({"styles": ["none such"]}, "styles"),
        ({"override_settings": {"no_such_option": 1}}, "no_such_option"),
        ({"override_settings": {"sd_vae_decode_method": "Half"}}, "sd_vae_decode_method"),
        ({"override_settings": {"randn_source": "TPU"}}, "randn_source"),
        ({"sampler_name": "Nonesuch"}, "sampler_name"),
        ({"scheduler": "Nonesuch"}, "scheduler"),
        ({"steps": 0}, "steps"),
        ({"width": 63}, "width"),
        ({"denoising_strength": 2}, "denoising_strength"),
        ({"steps": "many"}, "steps"),
        ({"init_images": []}, "init_images"),
        ({"init_images": ["http://example.org/a.png"]}, "init_images.0"),
        ({"init_images": ["not base64!"]}, "init_images.0"),
        ({"n_iter": 101}, "n_iter"),
        ({"n_iter": 100, "batch_size": 11}, "n_iter"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    gateway: Gateway, busy: FakeWorker, fields: dict[str, Any], named: str
) -> None:
    facts = refused(gateway, **fields)
    assert facts["field"] == named
    assert named.split(".")[0] in facts["detail"]


def test_faces_stay_as_they_are_where_nobody_can_restore_them(gateway: Gateway, busy: FakeWorker) -> None:
    """A1111's own test of its API wants a picture, though there are no weights."""
    FileNames(busy.client).say(busy.worker, {"face_restorer": []})
    (warning,) = info_of(render(gateway, restore_faces=True))["warnings"]
    assert warning.startswith("restore_faces: there is no CodeFormer here")
    assert "warnings" not in info_of(render(gateway, restore_faces=False))


@pytest.mark.parametrize("is_told_by_another", [False, True])
def test_what_no_worker_has_told_yet_is_left_to_the_worker(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers, is_told_by_another: bool
) -> None:
    if is_told_by_another:
        empty: dict[FileKind, list[str]] = {"face_restorer": [], "vae": [], "hypernetwork": []}
        other = WorkerInfo(id="other", model="m", device="none", slots=4)
        fake_worker.ledger.beat(other)
        FileNames(fake_worker.client).say(other.id, empty)
        LoraNames(fake_worker.client).say(other.id, {})
    wanted = {"sd_vae": "soft", "sd_lora": "ink", "sd_hypernetwork": "lines"}
    call = pool.submit(render, gateway, restore_faces=True, override_settings=wanted)
    claim = fake_worker.await_claim()
    params = fake_worker.ledger.job(claim.job_id, "default").params
    assert (params.restore_faces, params.vae) == (True, "soft")
    assert params.prompt.endswith("<hypernet:lines:1.0><lora:ink:1.0>")
    fake_worker.end(claim)
    assert "warnings" not in info_of(call.result())


def test_faces_are_restored_by_what_a_worker_has(gateway: Gateway, busy: FakeWorker) -> None:
    FileNames(busy.client).say(busy.worker, {"face_restorer": ["GFPGAN"]})
    listed = gateway.http.get("/sdapi/v1/face-restorers").json()
    assert listed == [{"name": "GFPGAN", "cmd_dir": None}]
    wanted = {"face_restoration": True, "face_restoration_model": "GFPGAN", "code_former_weight": 0.2}
    info = info_of(render(gateway, override_settings=wanted))
    assert (info["restore_faces"], info["face_restoration_model"]) == (True, "GFPGAN")
    assert "warnings" not in info
    assert info_of(render(gateway, override_settings=wanted, restore_faces=False))["restore_faces"] is False
    extras = {"image": encoded(), "gfpgan_visibility": 0.5}
    answer = gateway.http.post("/sdapi/v1/extra-single-image", json=extras).json()
    assert answer["html_info"] == "<p>GFPGAN visibility: 0.5</p>"
    refusal = gateway.http.post("/sdapi/v1/extra-single-image", json={**extras, "codeformer_visibility": 1})
    assert (refusal.status_code, refusal.json()["field"]) == (422, "codeformer_visibility")


def test_a_script_that_is_not_here_is_refused_in_a1111s_words(gateway: Gateway, busy: FakeWorker) -> None:
    assert (
        "always on script ADetailer not found"
        in refused(gateway, alwayson_scripts={"ADetailer": {"args": [True]}})["detail"]
    )


def test_nobody_to_serve_is_said_at_once(gateway: Gateway) -> None:
    answer = render(gateway)
    assert answer.status_code == 503
    assert answer.json()["detail"] == "no worker serves any model, for now"


def test_names_that_a1111_does_not_know_either_are_left_alone(gateway: Gateway, busy: FakeWorker) -> None:
    assert render(gateway, uniqueDocumentId="x", hr_scale=2, refiner_switch_at=0.8).status_code == 200


def info_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = json.loads(answer.json()["info"])
    return found


def test_what_a1111_sets_aside_is_named_in_the_info(gateway: Gateway, busy: FakeWorker) -> None:
    assert "warnings" not in info_of(render(gateway, image_cfg_scale=1.5))
    answer = render(
        gateway, uniqueDocumentId="x", image_cfg_scale=3, override_settings={"sd_model_checkpoint": "other"}
    )
    info = info_of(answer)
    assert [warning.split(":")[0] for warning in info["warnings"]] == [
        "uniqueDocumentId",
        "sd_model_checkpoint",
        "image_cfg_scale",
    ]
    assert info["sd_model_name"] == "m"
    assert "uniqueDocumentId" not in answer.json()["parameters"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"uniqueDocumentId": "x"}, "uniqueDocumentId"),
        ({"image_cfg_scale": 3}, "image_cfg_scale"),
        ({"override_settings": {"sd_model_checkpoint": "other"}}, "sd_model_checkpoint"),
        ({"override_settings": {"initial_noise_multiplier": 0.5}}, "initial_noise_multiplier"),
    ],
)
def test_a_strict_gateway_refuses_what_a1111_sets_aside(
    redis_url: str, store: Path, busy: FakeWorker, fields: dict[str, Any], named: str
) -> None:
    with Gateway(redis_url, store, strict=True) as gateway:
        assert refused(gateway, **fields)["field"] == named


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (["sd_vae", "sd_vae_overrides_per_model_preferences"], False),
        (["sd_vae_overrides_per_model_preferences", "sd_vae"], True),
        (["sd_vae_overrides_per_model_preferences"], False),
    ],
)
def test_whose_vae_comes_first_counts_in_a_request_before_what_loads_one(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers, names: list[str], counts: bool
) -> None:
    values = {"sd_vae": "None", "sd_vae_overrides_per_model_preferences": False}
    call = pool.submit(render, gateway, override_settings={name: values[name] for name in names})
    claim = fake_worker.await_claim()
    params = fake_worker.ledger.job(claim.job_id, "default").params
    assert params.sd_vae_overrides_per_model_preferences is not counts
    fake_worker.end(claim)
    assert call.result().status_code == 200


def test_a_lora_that_no_worker_has_is_refused_before_anything_is_queued(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    prompt = "a boat <lora:ink:1> <lora:Gold leaf:0.5>"
    names = LoraNames(fake_worker.client)
    names.say(fake_worker.worker, {"ink": "Ink", "gold": "Gold leaf"})
    FileNames(fake_worker.client).say(fake_worker.worker, {"hypernetwork": ["lines"]})
    call = pool.submit(render, gateway, prompt=prompt + " <lore:x:1>")
    fake_worker.end(fake_worker.await_claim())
    assert info_of(call.result())["warnings"] == ["prompt: <lore:x:1> asks for nothing that is known here"]
    for tag in ("<lora:none-such:1>", "<lora:ink:0,8>", "<hypernet:ink:1>"):
        facts = refused(gateway, prompt=f"{prompt} {tag}")
        assert facts["field"] == "prompt"
        assert tag.split(":")[1] in facts["detail"]
    hires = {"enable_hr": True, "denoising_strength": 0.5, "hr_prompt": "a <lora:none-such:1>", **SMALL}
    answer = gateway.http.post("/sdapi/v1/txt2img", json={"prompt": prompt, **hires})
    assert (answer.status_code, answer.json()["field"]) == (422, "hr_prompt")
    assert len(fake_worker.ledger.jobs("default")) == 1
    call = pool.submit(render, gateway, prompt="<lora:none-such:1>", disable_extra_networks=True)
    fake_worker.end(fake_worker.await_claim())
    assert call.result().status_code == 200
    assert gateway.http.get("/sdapi/v1/loras").json()[0]["alias"] == "Gold leaf"


def test_the_textual_inversions_that_prompts_may_name_are_listed(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    easy, xl = InversionInfo(step=7, shape=768, vectors=3), InversionInfo(reason="vectors of 2048")
    InversionNames(fake_worker.client).say(fake_worker.worker, "m", {"xl": xl, "Easy": easy})
    about = {"step": 7, "sd_checkpoint": None, "sd_checkpoint_name": None, "shape": 768, "vectors": 3}
    listed = gateway.http.get("/sdapi/v1/embeddings").json()
    assert listed["loaded"] == {"Easy": about}
    assert listed["skipped"]["xl"]["reason"] == "vectors of 2048"


def test_a_textual_inversion_that_cannot_be_used_is_warned_of(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    skipped = {"Easy": InversionInfo(reason="vectors of 2048"), "boat": InversionInfo(step=7)}
    InversionNames(fake_worker.client).say(fake_worker.worker, "m", skipped)
    call = pool.submit(render, gateway, prompt="uneasy boat", negative_prompt="(easy:1.2), dog")
    fake_worker.end(fake_worker.await_claim())
    assert info_of(call.result())["warnings"] == [
        "negative_prompt: Easy is read as a word, for the textual inversion cannot be used: vectors of 2048"
    ]


def test_the_hypernetwork_of_the_settings_is_named_in_the_prompt(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    FileNames(fake_worker.client).say(fake_worker.worker, {"hypernetwork": ["lines"]})
    assert gateway.http.get("/sdapi/v1/hypernetworks").json() == [{"name": "lines", "path": "lines"}]
    for name, prompt, wanted in (
        ("lines", "a boat", "a boat<hypernet:lines:1.0>"),
        ("lines", "a <hypernet:lines:0.5> boat", "a <hypernet:lines:0.5> boat"),
        ("nope", "a boat", "a boat"),
    ):
        call = pool.submit(render, gateway, prompt=prompt, override_settings={"sd_hypernetwork": name})
        claim = fake_worker.await_claim()
        assert fake_worker.ledger.job(claim.job_id, "default").params.prompt == wanted
        fake_worker.end(claim)
        assert ("warnings" in info_of(call.result())) == (name == "nope")


def test_the_lora_of_the_settings_is_named_in_the_prompt_after_the_hypernetwork(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    FileNames(fake_worker.client).say(fake_worker.worker, {"hypernetwork": ["lines"]})
    LoraNames(fake_worker.client).say(fake_worker.worker, {"ink": ""})
    of_both = {"sd_lora": "ink", "sd_hypernetwork": "lines", "extra_networks_default_multiplier": 0.5}
    for options, prompt, wanted in (
        ({"sd_lora": "ink"}, "a boat", "a boat<lora:ink:1.0>"),
        ({"sd_lora": "ink"}, "a <lora:ink:0.3>boat", "a <lora:ink:0.3>boat"),
        (of_both, "a boat", "a boat<hypernet:lines:0.5><lora:ink:0.5>"),
        ({"sd_lora": "nope"}, "a boat", "a boat"),
    ):
        call = pool.submit(render, gateway, prompt=prompt, override_settings=options)
        claim = fake_worker.await_claim()
        assert fake_worker.ledger.job(claim.job_id, "default").params.prompt == wanted
        fake_worker.end(claim)
        assert ("warnings" in info_of(call.result())) == (options == {"sd_lora": "nope"})


def test_the_ratio_of_merged_tokens_is_a1111s(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    both = {"token_merging_ratio": 0.7, "token_merging_ratio_img2img": 0.3}
    gateway.http.post("/sdapi/v1/options", json={"token_merging_ratio_img2img": 0.4}).raise_for_status()
    for options, wanted in (({}, 0.4), (both, 0.7), ({"token_merging_ratio": 0.2}, 0.2)):
        call = pool.submit(render, gateway, override_settings=options)
        claim = fake_worker.await_claim()
        assert fake_worker.ledger.job(claim.job_id, "default").params.token_merging_ratio == wanted
        fake_worker.end(claim)
        call.result()


def test_a_refiner_is_a_checkpoint_that_workers_have(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    names = ["sd15", "sub/xl-refiner", "sub/xl-refiner-2"]
    FileNames(fake_worker.client).say(fake_worker.worker, {"checkpoint": names})
    wanted = {"xl-refiner": names[1], "xl-refiner.safetensors [0123456789]": names[1], "refiner": names[1]}
    for sent, meant in {**wanted, "m": None, "None": None, "": None}.items():
        call = pool.submit(render, gateway, refiner_checkpoint=sent, refiner_switch_at=0.5)
        claim = fake_worker.await_claim()
        params = fake_worker.ledger.job(claim.job_id, "default").params
        facts = params.refiner_checkpoint, params.refiner_switch_at
        assert facts == (meant, 0.5 if meant else None)
        fake_worker.end(claim)
        assert call.result().status_code == 200
    answer = refused(gateway, refiner_checkpoint="nonesuch")
    assert answer["field"] == "refiner_checkpoint"
    assert "sd15, sub/xl-refiner, sub/xl-refiner-2" in answer["detail"]
    body = {"params": {"refiner_checkpoint": "nonesuch"}, "inputs": [{"image": encoded()}], "model": "m"}
    own = gateway.http.post("/v1/jobs", json=body)
    assert (own.status_code, own.json()["field"]) == (422, "refiner_checkpoint")


def test_a_vae_is_the_one_of_that_name_or_as_in_a1111_none(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    FileNames(fake_worker.client).say(fake_worker.worker, {"vae": ["soft.safetensors"]})
    assert gateway.http.get("/sdapi/v1/sd-vae").json() == [
        {"model_name": "soft.safetensors", "filename": "soft.safetensors"}
    ]
    for sent, wanted in {"soft.safetensors": "soft.safetensors", "auto": "Automatic", "soft": "None"}.items():
        call = pool.submit(render, gateway, override_settings={"sd_vae": sent})
        claim = fake_worker.await_claim()
        assert fake_worker.ledger.job(claim.job_id, "default").params.vae == wanted
        fake_worker.end(claim)
        warnings = info_of(call.result()).get("warnings", [])
        assert [warning.split(" (")[0] for warning in warnings] == (
            ["sd_vae: no VAE 'soft' here"] if sent == "soft" else []
        )


@pytest.mark.parametrize(
    ("reason", "status"), [(str(Refused("mask", "x", "a picture")), 422), ("no such object", 500)]
)
def test_a_callers_fault_that_a_worker_finds_is_told_as_one(
    redis_url: str, store: Path, fake_worker: FakeWorker, pool: Callers, reason: str, status: int
) -> None:
    with Gateway(redis_url, store) as gateway:  # one that begins no answer before it knows its status
        call = pool.submit(render, gateway)
        fake_worker.ledger.fail(fake_worker.await_claim(), reason)
        answer = call.result()
    assert (answer.status_code, reason in answer.json()["detail"]) == (status, True)


def test_comments_in_a_prompt_are_not_told(gateway: Gateway, busy: FakeWorker) -> None:
    info = info_of(render(gateway, prompt="a # b\n# c\nd", negative_prompt="x # y"))
    assert (info["prompt"], info["all_negative_prompts"]) == ("a \nd", ["x \n"])


def test_json_is_read_without_a_content_type(gateway: Gateway, busy: FakeWorker) -> None:
    body = json.dumps({"init_images": [encoded()], **SMALL})
    answer = gateway.http.post("/sdapi/v1/img2img", content=body)
    assert "content-type" not in answer.request.headers
    assert answer.status_code == 200


def test_a_sampler_by_number_is_a1111s_first_one(gateway: Gateway, busy: FakeWorker) -> None:
    info = info_of(render(gateway, sampler_index=5))
    assert info["sampler_name"] == "DPM++ 2M"
    assert info["extra_generation_params"]["Schedule type"] == "Karras"
    assert info["warnings"]


@pytest.mark.parametrize("credentials", ["Basic", "Basic Og==", "Basic ???", "Bearer sk-anything"])
def test_a_password_that_nobody_asked_for_is_ignored(gateway: Gateway, credentials: str) -> None:
    answer = gateway.http.get("/sdapi/v1/options", headers={"Authorization": credentials})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "scripts",
    [
        {"ControlNet": {"args": []}},
        {"ControlNet": {"args": [{"enabled": False, "image": "x"}]}},
        {"controlnet": {}},
        {"Refiner": {"args": [False, "", 0.8]}},
        {"Refiner": {"args": [True, "xl-refiner", 0.8]}},
        {"Seed": {"args": [99, True, 5, 0.5, 0, 0]}},
        {"Sampler": {"args": [20, "Euler a", "Karras"]}},
        {"Soft inpainting": {"args": [False, 1, 0.5, 4, 0, 0.5, 2]}},
        {"ADetailer": {"args": [False]}},
        [],
    ],
)
def test_a_script_that_asks_for_nothing_is_set_aside(
    gateway: Gateway, busy: FakeWorker, scripts: Any
) -> None:
    info = info_of(render(gateway, alwayson_scripts=scripts, script_name="None", script_args=[1]))
    assert (info["sampler_name"], info["steps"]) == ("Euler", 4)


def test_whole_numbers_are_read_as_a1111_reads_them(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    fields = {"steps": 4.9, "seed": "12", "mask_blur": 4.7, "inpainting_mask_invert": True, "mask": encoded()}
    call = pool.submit(render, gateway, **fields)
    claim = fake_worker.await_claim()
    params = fake_worker.ledger.job(claim.job_id, "default").params
    assert (params.steps, params.seed, params.mask_blur_x, params.inpainting_mask_invert) == (4, 12, 4, 1)
    fake_worker.end(claim)
    told = call.result().json()["parameters"]
    assert (told["steps"], told["seed"], told["mask_blur"], told["mask_blur_x"]) == (4, 12, 4, 4)


def test_a_width_that_is_no_multiple_of_8_reaches_the_job(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    call = pool.submit(render, gateway, width=100, height=70.9)
    claim = fake_worker.await_claim()
    params = fake_worker.ledger.job(claim.job_id, "default").params
    assert (params.width, params.height, params.odd_size) == (100, 70, True)
    fake_worker.end(claim)
    assert info_of(call.result())["width"] == 100


@pytest.mark.parametrize(("quality", "expected"), [(None, 80), (40, 40)])
def test_a_jpeg_has_a1111s_quality(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers, quality: int | None, expected: int
) -> None:
    gateway.http.post("/sdapi/v1/options", json={"samples_format": "jpg", "jpeg_quality": quality})
    call = pool.submit(render, gateway)
    claim = fake_worker.await_claim()
    assert fake_worker.ledger.job(claim.job_id, "default").params.quality == expected
    fake_worker.end(claim)
    assert call.result().status_code == 200


def test_a_picture_of_another_format_is_answered_where_it_is_set_and_not_overridden(
    gateway: Gateway, busy: FakeWorker
) -> None:
    override = {"samples_format": "jpg"}
    for kept, start in ((False, b"\x89PNG"), (True, b"\xff\xd8")):
        answer = render(
            gateway, override_settings=override, override_settings_restore_afterwards=not kept
        ).json()
        assert base64.b64decode(answer["images"][0]).startswith(start)


def test_the_chosen_checkpoint_has_its_title_in_the_list_before_anybody_loads_it(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "tiny.safetensors").write_bytes(b"tiny")
    settings = GatewaySettings(data_dir=tmp_path / "data", models_dir=models)
    with TestClient(create_app(settings), "http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "tiny"}).raise_for_status()
        told = client.get("/sdapi/v1/options").json()
        listed = {each["title"]: each for each in client.get("/sdapi/v1/sd-models").json()}
        assert told["sd_checkpoint_hash"] == listed[told["sd_model_checkpoint"]]["sha256"]


def test_an_infotext_fills_what_the_request_leaves_out(gateway: Gateway, busy: FakeWorker) -> None:
    text = "a red fox\nNegative prompt: fog\nSteps: 3, Sampler: DPM++ 2M, Schedule type: Karras, Seed: 99"
    text += ", Clip skip: 2, CFG scale: 3, Denoising strength: 0.2"
    body = {"init_images": [encoded()], "infotext": text, "width": 64, "height": 64, "steps": 5}
    answer = gateway.http.post("/sdapi/v1/img2img", json=body)
    info = info_of(answer)
    assert (info["prompt"], info["negative_prompt"], info["seed"]) == ("", "", 99)
    assert [warning.partition(":")[0] for warning in info["warnings"]] == ["infotext"]
    assert (info["sampler_name"], info["steps"], info["clip_skip"]) == ("DPM++ 2M", 5, 2)
    assert (info["cfg_scale"], info["denoising_strength"]) == (7, 0.75)
    assert answer.json()["parameters"]["override_settings"] == {"CLIP_stop_at_last_layers": 2}
    info = info_of(gateway.http.post("/sdapi/v1/img2img", json={**body, "prompt": "a cat"}))
    assert (info["prompt"], "warnings" in info) == ("a cat", False)
    del body["init_images"]
    info = info_of(gateway.http.post("/sdapi/v1/txt2img", json={**body, "negative_prompt": ""}))
    assert (info["prompt"], info["negative_prompt"], info["cfg_scale"]) == ("a red fox", "", 3)


@pytest.mark.parametrize(
    ("told", "warned"),
    [
        ("Model hash: 0123456789, Model: elsewhere", False),
        ("Model hash: 0000000000, Model: m", True),
        ("Model hash: 81761151, Model: m", False),  # as A1111 once counted it
        ("Model: other", True),
    ],
)
def test_an_infotext_of_another_checkpoint_is_warned_of(
    gateway: Gateway, busy: FakeWorker, told: str, warned: bool
) -> None:
    info = info_of(render(gateway, prompt="a cat", infotext=f"x\nSteps: 4, Sampler: Euler, {told}"))
    assert info["sd_model_name"] == "m"
    found = [text for text in info.get("warnings", []) if "no checkpoint is taken from it" in text]
    assert len(found) == warned


def test_an_infotext_chooses_the_checkpoint_where_the_settings_let_it(
    gateway: Gateway, fake_worker: FakeWorker, redis_url: str, store: Path
) -> None:
    other = FakeWorker(redis_url, store, "other")
    other.sha256 = "ab" * 32
    other._info = replace(other._info, sha256=other.sha256)
    other.ledger.beat(other._info)
    text, own = "x\nSteps: 4, Sampler: Euler, Model hash: ", {"sd_model_checkpoint": "m"}
    with fake_worker, other:

        def rendered(digest: str, **options: Any) -> tuple[str, list[str]]:
            info = info_of(render(gateway, infotext=text + digest, prompt="a", override_settings=options))
            return info["sd_model_name"], [warning.split(":")[0] for warning in info.get("warnings", [])]

        gateway.http.post("/sdapi/v1/options", json=own).raise_for_status()
        # too late for its own infotext, as in A1111
        assert rendered("ab" * 5, disable_weights_auto_swap=False) == ("m", ["infotext"])
        chosen = {"disable_weights_auto_swap": False}
        gateway.http.post("/sdapi/v1/options", json=chosen).raise_for_status()
        assert rendered("ab" * 5) == ("other", [])
        assert rendered("ab" * 5, **own) == ("m", [])
        assert rendered("cd" * 5) == ("m", ["sd_model_checkpoint"])


def test_an_infotext_that_says_what_no_request_may_is_refused(gateway: Gateway, busy: FakeWorker) -> None:
    text = "x\nSteps: many, Sampler: Euler, CFG scale: 5, Seed: 3"
    assert refused(gateway, infotext=text, steps=None)["field"] == "infotext.steps"


def test_styles_of_the_file_are_applied(
    redis_url: str, tmp_path: Path, store: Path, busy: FakeWorker
) -> None:
    styles = tmp_path / "styles.csv"
    styles.write_text('name,prompt,negative_prompt\noil,"oil painting of {prompt}",photo\nbig,huge,\n')
    with Gateway(redis_url, store, styles_file=styles) as gateway:
        info = json.loads(render(gateway, prompt="a cat", styles=["oil", "big"]).json()["info"])
        names = [style["name"] for style in gateway.http.get("/sdapi/v1/prompt-styles").json()]
    assert info["prompt"] == "oil painting of a cat, huge"
    assert info["negative_prompt"] == "photo"
    assert info["styles"] == ["oil", "big"]
    assert names == ["oil", "big"]


def test_a_long_call_is_kept_alive_by_whitespace(gateway: Gateway, fake_worker: FakeWorker) -> None:
    chunks: list[bytes] = []
    body = {"init_images": [encoded()], **SMALL}
    with gateway.http.stream("POST", "/sdapi/v1/img2img", json=body) as response:
        assert response.status_code == 200
        parts = response.iter_raw()
        chunks += [next(parts), next(parts)]  # two signs of life before anybody has begun with it
        assert fake_worker.work() == 1
        chunks += list(parts)
    assert chunks[:2] == [b" ", b" "]
    assert len(json.loads(b"".join(chunks))["images"]) == 1


def test_a_failure_is_told_with_its_reason(gateway: Gateway, fake_worker: FakeWorker, pool: Callers) -> None:
    call = pool.submit(render, gateway)
    fake_worker.ledger.fail(fake_worker.await_claim(), "the picture is broken")
    answer = call.result()
    assert "the picture is broken" in answer.json()["detail"]
    assert "images" not in answer.json()


def test_many_calls_wait_at_once_without_a_thread_each(
    redis_url: str, store: Path, fake_worker: FakeWorker
) -> None:
    # threads of the store's calls, of reading requests (anyio's own limit), and a few of the gateway itself
    most = THREADS + 40 + 16
    n = 120
    # a gateway of its own, which has no idle threads of earlier calls
    with Gateway(redis_url, store) as gateway, Callers(fake_worker, n) as pool:
        before = threading.active_count()
        calls = [pool.submit(render, gateway, seed=i) for i in range(n)]
        claims = [fake_worker.await_claim() for _ in range(n)]
        # as many are this test's own, which wait for the answers
        gateways = threading.active_count() - before - n
        for claim in claims:
            fake_worker.end(claim)
        answers = [call.result() for call in calls]
    assert [answer.json() for answer in answers if "info" not in answer.json()] == []
    assert sorted(json.loads(answer.json()["info"])["seed"] for answer in answers) == list(range(n))
    assert gateways <= most < n


def test_who_hangs_up_stops_the_render(gateway: Gateway, fake_worker: FakeWorker) -> None:
    body = {"init_images": [encoded()], **SMALL, "n_iter": 2}
    with gateway.http.stream("POST", "/sdapi/v1/img2img", json=body) as response:
        next(response.iter_raw())
    eventually(
        "it is cancelled",
        lambda: {str(job.state) for job in fake_worker.ledger.jobs("default")} == {"cancelled"},
    )
    assert fake_worker.claim() is None


def start(gateway: Gateway, pool: Callers, **fields: Any) -> Future[httpx.Response]:
    return pool.submit(render, gateway, **fields)


def test_idle_means_no_progress_and_no_job(gateway: Gateway) -> None:
    idle = gateway.http.get("/sdapi/v1/progress").json()
    assert (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0, 0, None)


def test_progress_is_told_beside_a_gateway_of_a_newer_version(gateway: Gateway, redis: Redis) -> None:
    task = {"id": "x", "kind": "img2img", "jobs": ["job-gone"], "steps": 1, "begun": 1.0, "newer": 1}
    redis.hset("{img2img}:gateway:tasks:default", "x", json.dumps(task))
    redis.hset("{img2img}:gateway:last-task:default", "newer", "1")
    assert gateway.http.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0


def test_progress_counts_and_shows_the_newest_picture(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    call = start(gateway, pool, n_iter=4, seed=40)
    data = fake_worker.end(fake_worker.await_claim())
    now = eventually(
        "a quarter is done",
        lambda: (found := gateway.http.get("/sdapi/v1/progress").json())["progress"] > 0.25 and found,
    )
    assert now["progress"] == pytest.approx(0.26)
    assert (now["state"]["job_count"], now["state"]["job_no"], now["state"]["sampling_steps"]) == (4, 1, 4)
    assert base64.b64decode(now["current_image"]) == data
    quiet = gateway.http.get("/sdapi/v1/progress", params={"skip_current_image": True}).json()
    assert quiet["current_image"] is None
    eventually("all are written", lambda: len(fake_worker.ledger.jobs("default")) == 4)
    assert fake_worker.work() == 3
    assert len(call.result().json()["images"]) == 4
    eventually("it is idle", lambda: gateway.http.get("/sdapi/v1/progress").json()["progress"] == 0)


def test_progress_shows_an_image_under_way(gateway: Gateway, fake_worker: FakeWorker, pool: Callers) -> None:
    def current() -> str | None:
        found: str | None = gateway.http.get("/sdapi/v1/progress").json()["current_image"]
        return found

    call = start(gateway, pool, force_task_id="mine")
    claim = fake_worker.await_claim()
    previews = Previews(fake_worker.client)
    eventually("the look is noted", lambda: current() is None and previews.watched([claim.job_id]))
    previews.show(claim.job_id, 0, b"\xff\xd8 a preview")
    assert base64.b64decode(current() or "") == b"\xff\xd8 a preview"
    told = gateway.http.post("/internal/progress", json={"id_task": "mine"}).json()
    assert told["live_preview"].startswith("data:image/jpeg;base64,")
    known = {"id_task": "mine", "id_live_preview": told["id_live_preview"]}
    assert gateway.http.post("/internal/progress", json=known).json()["live_preview"] is None
    fake_worker.end(claim)
    assert call.result().status_code == 200


def test_progress_moves_with_the_steps_of_an_image_under_way(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    def now(**query: bool) -> dict[str, Any]:
        found: dict[str, Any] = gateway.http.get("/sdapi/v1/progress", params=query).json()
        return found

    call = start(gateway, pool, force_task_id="mine", batch_size=2, steps=20, denoising_strength=0.45)
    fake_worker.end(fake_worker.await_claim())
    claim = fake_worker.await_claim()
    previews = Previews(fake_worker.client)
    eventually("the look is noted", lambda: now() and previews.watched([claim.job_id]))
    assert (now()["progress"], now()["state"]["sampling_step"]) == (pytest.approx(0.51), 0)
    previews.count(claim.job_id, claim.index, 10, 20)  # a sampler with two model calls to a step
    for told in (now(), now(skip_current_image=True)):
        assert told["progress"] == pytest.approx(0.76)
        assert (told["state"]["sampling_step"], told["state"]["sampling_steps"]) == (5, 10)
    for wish in (True, False):
        body = {"id_task": "mine", "live_preview": wish}
        told = gateway.http.post("/internal/progress", json=body).json()
        assert told["progress"] == pytest.approx(0.76)
    fake_worker.end(claim)
    assert call.result().status_code == 200


def test_interrupt_answers_with_what_is_done(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    call = start(gateway, pool, n_iter=3)
    fake_worker.end(fake_worker.await_claim())
    eventually("the task is known", lambda: gateway.http.get("/sdapi/v1/progress").json()["progress"])
    answer = gateway.http.post("/sdapi/v1/interrupt")
    assert answer.json() == {}
    assert len(call.result().json()["images"]) == 1


def test_interrupt_answers_with_an_image_under_way_as_far_as_it_is(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    call = start(gateway, pool, n_iter=3, seed=7)
    claim = fake_worker.await_claim()
    eventually("the task is known", lambda: gateway.http.get("/sdapi/v1/progress").json()["progress"])
    assert gateway.http.post("/sdapi/v1/interrupt").json() == {}
    (told,) = fake_worker.ledger.renew([claim])
    assert told.interrupted
    assert gateway.http.get("/sdapi/v1/progress").json()["state"]["interrupted"]
    data = fake_worker.end(claim)
    answer = call.result().json()
    assert [base64.b64decode(image) for image in answer["images"]] == [data]
    assert json.loads(answer["info"])["all_seeds"] == [7, 8, 9]
    state = gateway.http.get("/sdapi/v1/progress").json()["state"]
    assert (state["interrupted"], state["job"], state["job_count"]) == (True, "", 0)
    assert (state["job_no"], state["sampling_step"], state["sampling_steps"]) == (1, 0, 4)
    call = start(gateway, pool)
    fake_worker.end(fake_worker.await_claim())
    assert call.result().status_code == 200
    assert not gateway.http.get("/sdapi/v1/progress").json()["state"]["interrupted"]


def test_of_iterations_that_render_at_once_an_interrupt_leaves_the_first(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    call = start(gateway, pool, n_iter=2, seed=7)
    claims = [fake_worker.await_claim() for _ in range(2)]
    eventually("the task is known", lambda: gateway.http.get("/sdapi/v1/progress").json()["progress"])
    gateway.http.post("/sdapi/v1/interrupt")
    told = fake_worker.ledger.renew(claims)
    assert [(each.interrupted, each.cancelled) for each in told] == [(True, False), (False, True)]
    fake_worker.end(claims[0])
    fake_worker.ledger.release(claims[1])
    texts = json.loads(call.result().json()["info"])["infotexts"]
    assert ["Seed: 7," in text for text in texts] == [True]


def test_skip_ends_one_iteration_as_far_as_it_is(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    call = start(gateway, pool, n_iter=2, seed=7)
    claim = fake_worker.await_claim()
    eventually("the task is known", lambda: gateway.http.get("/sdapi/v1/progress").json()["progress"])
    gateway.http.post("/sdapi/v1/skip")
    (told,) = fake_worker.ledger.renew([claim])
    assert told.interrupted
    assert gateway.http.get("/sdapi/v1/progress").json()["state"]["skipped"]
    fake_worker.end(claim)
    assert not gateway.http.get("/sdapi/v1/progress").json()["state"]["skipped"]
    assert fake_worker.work() == 1
    assert len(call.result().json()["images"]) == 2


def test_skip_leaves_out_one_iteration(gateway: Gateway, fake_worker: FakeWorker, pool: Callers) -> None:
    call = start(gateway, pool, n_iter=3, seed=10)
    eventually("the task is known", lambda: gateway.http.get("/sdapi/v1/progress").json()["progress"])
    assert gateway.http.post("/sdapi/v1/skip").json() is None
    assert fake_worker.work() == 2
    answer = call.result().json()
    assert len(answer["images"]) == 2
    assert sorted(fake_worker.seeds) == [11, 12]


def test_a_named_task_can_be_followed(gateway: Gateway, fake_worker: FakeWorker, pool: Callers) -> None:
    def told() -> dict[str, Any]:
        facts: dict[str, Any] = gateway.http.post("/internal/progress", json={"id_task": "mine"}).json()
        return facts

    call = start(gateway, pool, force_task_id="mine", n_iter=2)
    eventually("it waits", lambda: told()["queued"])
    assert gateway.http.get("/internal/pending-tasks").json() == {"size": 1, "tasks": ["mine"]}
    fake_worker.end(fake_worker.await_claim())
    assert told()["active"]
    assert told()["live_preview"].startswith("data:image/png;base64,")
    eventually("both are written", lambda: fake_worker.work() == 1)
    assert call.result().status_code == 200
    eventually("it is over", lambda: told()["completed"])


def test_options_are_kept_for_the_tenant_and_used(
    gateway: Gateway, fake_worker: FakeWorker, pool: Callers
) -> None:
    options = gateway.http.get("/sdapi/v1/options").json()
    assert options["sd_model_checkpoint"] == "m [0123456789]"
    assert gateway.http.post("/sdapi/v1/options", json=options).json() == {}
    changed = {"CLIP_stop_at_last_layers": 2, "samples_format": "jpg", "img2img_color_correction": True}
    gateway.http.post("/sdapi/v1/options", json=changed)
    assert gateway.http.get("/sdapi/v1/options").json().items() >= changed.items()
    call = start(gateway, pool)
    claim = fake_worker.await_claim()
    params = fake_worker.ledger.job(claim.job_id, "default").params
    assert (params.clip_skip, params.output_format, params.color_correction) == (2, "jpeg", True)
    fake_worker.end(claim)
    assert base64.b64decode(call.result().json()["images"][0]).startswith(b"\xff\xd8")
    assert "Clip skip: 2" in json.loads(call.result().json()["info"])["infotexts"][0]


def test_override_settings_hold_for_one_call(gateway: Gateway, busy: FakeWorker) -> None:
    override = {"CLIP_stop_at_last_layers": 3, "sd_model_checkpoint": "m.safetensors [0123456789]"}
    first = render(gateway, override_settings=override).json()
    assert json.loads(first["info"])["clip_skip"] == 3
    assert json.loads(render(gateway).json()["info"])["clip_skip"] == 1
    render(gateway, override_settings=override, override_settings_restore_afterwards=False)
    assert json.loads(render(gateway).json()["info"])["clip_skip"] == 3


def test_an_option_that_means_nothing_here_is_told_as_it_was_sent(gateway: Gateway, busy: FakeWorker) -> None:
    sent = {"outdir_samples": "here", "samples_save": True, "show_progress_every_n_steps": 3.0}
    assert gateway.http.post("/sdapi/v1/options", json=sent).json() == {}
    assert gateway.http.get("/sdapi/v1/options").json().items() >= sent.items()
    assert render(gateway, override_settings={"ddim_discretize": "uniform", **sent}).status_code == 200


def test_what_options_answers_may_be_sent_back_whole(gateway: Gateway, busy: FakeWorker) -> None:
    options = gateway.http.get("/sdapi/v1/options").json()
    assert gateway.http.post("/sdapi/v1/options", json=options).json() == {}
    assert gateway.http.get("/sdapi/v1/options").json() == options
    assert render(gateway, override_settings=options).status_code == 200


def test_a_checkpoint_has_one_queue_however_it_is_named(
    redis_url: str, store: Path, gateway: Gateway
) -> None:
    with FakeWorker(redis_url, store, model="/models/tiny.safetensors") as worker:
        title = gateway.http.get("/sdapi/v1/sd-models").json()[0]["title"]
        for name in ("tiny", "Tiny.safetensors", "/models/tiny.safetensors", title, worker.sha256[:10]):
            info = json.loads(render(gateway, override_settings={"sd_model_checkpoint": name}).json()["info"])
            assert info["sd_model_name"] == "tiny"
        assert json.loads(render(gateway).json()["info"])["sd_model_name"] == "tiny"
        assert gateway.http.get("/sdapi/v1/options").json()["sd_model_checkpoint"] == title
        assert {job.model for job in worker.ledger.jobs("default")} == {"/models/tiny.safetensors"}


def test_checkpoints_are_listed_by_their_files_names(redis_url: str, store: Path, gateway: Gateway) -> None:
    models = ["/a/Cat.safetensors", "/c/ant.safetensors", "/b/bee.safetensors"]
    with ExitStack() as workers:
        for model in models:
            workers.enter_context(FakeWorker(redis_url, store, model=model))
        listed = gateway.http.get("/sdapi/v1/sd-models").json()
    assert [each["model_name"] for each in listed] == ["ant", "bee", "Cat"]


@pytest.mark.parametrize("options", [{}, {"sd_model_checkpoint": "m"}])
def test_a_farm_without_workers_asks_to_come_again(gateway: Gateway, options: dict[str, str]) -> None:
    answer = render(gateway, override_settings=options)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["detail"] == "no worker serves any model, for now"


def test_a_models_hash_is_told(gateway: Gateway, fake_worker: FakeWorker) -> None:
    (listed,) = gateway.http.get("/sdapi/v1/sd-models").json()
    assert listed["sha256"] == fake_worker.sha256
    assert listed["hash"] == fake_worker.sha256[:10]
    assert listed["title"] == f"m [{listed['hash']}]"
    assert gateway.http.get("/sdapi/v1/options").json()["sd_checkpoint_hash"] == fake_worker.sha256


def test_options_that_do_not_exist_are_refused(gateway: Gateway) -> None:
    answer = gateway.http.post("/sdapi/v1/options", json={"samples_format": "webp", "nonesuch": 1})
    assert (answer.status_code, answer.json()["field"]) == (422, "nonesuch")
    assert gateway.http.get("/sdapi/v1/options").json()["samples_format"] == "png"


def test_txt2img_is_noise_alone(gateway: Gateway, fake_worker: FakeWorker, pool: Callers) -> None:
    call = pool.submit(gateway.http.post, "/sdapi/v1/txt2img", json={"prompt": "a cat", **SMALL})
    claim = fake_worker.await_claim()
    job = fake_worker.ledger.job(claim.job_id, "default")
    (item,) = decode_inputs(fake_worker.store.get(inputs_key(job.id, 0)))
    assert (job.params.txt2img, item.pictures, job.pictures) == (True, {}, {})
    fake_worker.end(claim)
    assert json.loads(call.result().json()["info"])["prompt"] == "a cat"


def test_txt2img_takes_a_hires_fix(gateway: Gateway, fake_worker: FakeWorker, pool: Callers) -> None:
    fields = {
        **SMALL,
        "prompt": "a cat",
        "enable_hr": True,
        "denoising_strength": 0.6,
        "hr_scale": 1.5,
        "hr_upscaler": "Lanczos",
        "hr_prompt": "a dog",
        "hr_checkpoint_name": "Use same checkpoint",
        "hr_sampler_name": "",
        "hr_scheduler": "",
        "override_settings": {"img2img_extra_noise": 0.1, "img2img_color_correction": True},
    }
    call = pool.submit(gateway.http.post, "/sdapi/v1/txt2img", json=fields)
    claim = fake_worker.await_claim()
    params = fake_worker.ledger.job(claim.job_id, "default").params
    assert (params.enable_hr, params.hr_scale, params.hr_upscaler) == (True, 1.5, "Lanczos")
    assert (params.hr_prompt, params.hr_checkpoint_name) == ("a dog", None)
    assert (params.denoising_strength, params.extra_noise, params.color_correction) == (0.6, 0.1, False)
    fake_worker.end(claim)
    extra = info_of(call.result())["extra_generation_params"]
    assert (extra["Hires prompt"], extra["Hires schedule type"]) == (None, None)


@pytest.mark.parametrize("of", ["upscalers", "latent-upscale-modes"])
def test_a_hires_fix_takes_every_upscaler_that_is_listed(gateway: Gateway, busy: FakeWorker, of: str) -> None:
    fields = {"prompt": "a cat", "enable_hr": True, "denoising_strength": 0.5, **SMALL}
    listed = gateway.http.get(f"/sdapi/v1/{of}").json()
    assert {each["name"] for each in listed} & {"Nearest", "Latent (nearest-exact)"}
    for each in listed:
        answer = gateway.http.post("/sdapi/v1/txt2img", json={**fields, "hr_upscaler": each["name"]})
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "denoising_strength"),
        ({"denoising_strength": 0.5, "hr_checkpoint_name": "nosuch"}, "hr_checkpoint_name"),
        ({"denoising_strength": 0.5, "hr_sampler_name": "Use same sampler"}, "hr_sampler_name"),
        ({"denoising_strength": 0.5, "firstpass_image": "x"}, "firstpass_image"),
    ],
)
def test_what_a_hires_fix_cannot_be_is_refused_by_name(
    gateway: Gateway, busy: FakeWorker, fields: dict[str, Any], field: str
) -> None:
    FileNames(busy.client).say(busy.worker, {"checkpoint": ["xl"]})
    body = {"prompt": "a cat", "enable_hr": True, **SMALL, **fields}
    answer = gateway.http.post("/sdapi/v1/txt2img", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_an_upscaler_that_no_worker_has_is_refused_before_anything_is_queued(
    gateway: Gateway, busy: FakeWorker
) -> None:
    FileNames(busy.client).say(busy.worker, {"upscaler": ["4x-cat"]})
    listed = [each["name"] for each in gateway.http.get("/sdapi/v1/upscalers").json()]
    assert listed == ["None", "Lanczos", "Nearest", "4x-cat"]
    hires = {"prompt": "a cat", "enable_hr": True, "denoising_strength": 0.5, **SMALL}
    answer = gateway.http.post("/sdapi/v1/txt2img", json={**hires, "hr_upscaler": "4x-dog"})
    assert (answer.status_code, answer.json()["field"]) == (422, "hr_upscaler")
    assert "Known are None, Lanczos, Nearest, 4x-cat; to give" in answer.json()["detail"]
    answer = render(gateway, override_settings={"upscaler_for_img2img": "4x-dog"})
    assert (answer.status_code, answer.json()["field"]) == (422, "upscaler_for_img2img")
    assert not gateway.http.get("/v1/jobs").json()["jobs"]
    assert gateway.http.post("/sdapi/v1/txt2img", json={**hires, "hr_upscaler": "4x-cat"}).status_code == 200
    assert render(gateway, override_settings={"upscaler_for_img2img": "4x-cat"}).status_code == 200


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"upscaler_1": "4x-dog"}, "upscaler_1"),
        ({"resize_mode": 2}, "resize_mode"),
        ({"image": ""}, "image"),
        ({"image": "https://example.com/cat.png"}, "image"),
        ({"upscaling_resize": 0}, "upscaling_resize"),
        ({"extras_upscaler_2_visibility": 2}, "extras_upscaler_2_visibility"),
    ],
)
def test_what_extras_cannot_be_is_refused_by_name(
    gateway: Gateway, busy: FakeWorker, fields: dict[str, Any], field: str
) -> None:
    FileNames(busy.client).say(busy.worker, {"upscaler": ["4x-cat"]})
    answer = gateway.http.post("/sdapi/v1/extra-single-image", json={"image": encoded(), **fields})
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert not gateway.http.get("/v1/jobs").json()["jobs"]


def test_extras_are_one_job_whose_pictures_go_with_its_answer(gateway: Gateway, busy: FakeWorker) -> None:
    FileNames(busy.client).say(busy.worker, {"upscaler": ["4x-cat"]})
    gateway.http.post(
        "/sdapi/v1/options", json={"samples_format": "webp", "ESRGAN_tile": 64.0, "eta_ddim": 0.5}
    )
    files = [{"data": encoded(1), "name": "sea/a.png"}, {"data": encoded(2), "name": ""}]
    body = {"imageList": files, "upscaler_1": "4x-cat", "upscaling_resize": 3, "upscale_first": True}
    answer = gateway.http.post("/sdapi/v1/extra-batch-images", json={**body, "model": "clip"}).json()
    assert answer["html_info"] == "<p>Postprocess upscale by: 3.0, Postprocess upscaler: 4x-cat</p>"
    assert len(answer["images"]) == 2
    (job,) = gateway.http.get("/v1/jobs").json()["jobs"]
    params = gateway.http.get(f"/v1/jobs/{job['id']}/params").json()
    assert (params["output_format"], params["esrgan_tile"], params["extras"]) == ("webp", 64, True)
    images = gateway.http.get(f"/v1/jobs/{job['id']}/images").json()["images"]
    assert [image["name"] for image in images] == ["a", None]
    assert not busy.store.exists(result_key(job["id"], 0, "webp"))


@pytest.mark.parametrize("output_format", ["png", "jpg", "webp"])
def test_png_info_reads_a_result_back(gateway: Gateway, busy: FakeWorker, output_format: str) -> None:
    fields = {"prompt": "a cat, in “rain”", "negative_prompt": "fog", "seed": 3, "sampler_name": "DPM++ 2M"}
    gateway.http.post("/sdapi/v1/options", json={"samples_format": output_format})
    answer = render(gateway, **fields).json()
    told = gateway.http.post("/sdapi/v1/png-info", json={"image": answer["images"][0]}).json()
    assert told["info"] == json.loads(answer["info"])["infotexts"][0]
    read = told["parameters"]
    assert (read["Prompt"], read["Negative prompt"], read["Seed"]) == ("a cat, in “rain”", "fog", "3")
    assert (read["Size-1"], read["Schedule type"]) == ("64", "Karras")


def test_png_info_of_a_plain_picture_is_empty(gateway: Gateway) -> None:
    told = gateway.http.post("/sdapi/v1/png-info", json={"image": encoded()}).json()
    assert (told["info"], told["items"], told["parameters"]["Prompt"]) == ("", {}, "")


@pytest.mark.parametrize(
    ("sampler", "meant"), [("k_euler_ancestral", "Euler a"), ("ddim", "DDIM"), ("k_new", "Euler a")]
)
def test_png_info_reads_novelais_texts_as_a1111(gateway: Gateway, sampler: str, meant: str) -> None:
    comment = {"steps": 28, "sampler": sampler, "seed": 3, "strength": 0.7, "scale": 11.0, "uc": "a dog"}
    texts = {"Software": "NovelAI", "Description": "a {cat}", "Comment": json.dumps(comment)}
    told = gateway.http.post("/sdapi/v1/png-info", json={"image": with_texts(**texts)}).json()
    assert told["info"] == (
        f"a {{cat}}\nNegative prompt: a dog\nSteps: 28, Sampler: {meant}, CFG scale: 11.0, Seed: 3, "
        "Size: 24x16, Clip skip: 2, ENSD: 31337"
    )
    assert told["items"] == texts


@pytest.mark.parametrize("comment", ["[" * 100_000, "[]", "{}", "nothing"])
def test_png_info_of_broken_texts_of_novelai_is_empty(gateway: Gateway, comment: str) -> None:
    image = with_texts(Software="NovelAI", Description="a cat", Comment=comment)
    assert gateway.http.post("/sdapi/v1/png-info", json={"image": image}).json()["info"] == ""


def test_png_info_of_novelai_may_have_half_a_character(gateway: Gateway) -> None:
    comment = {"steps": 28, "sampler": "ddim", "seed": 3, "scale": 11, "uc": "a \ud83d"}
    image = with_texts(Software="NovelAI", Description="a cat", Comment=json.dumps(comment))
    info = gateway.http.post("/sdapi/v1/png-info", json={"image": image}).json()["info"]
    assert info.splitlines()[1] == "Negative prompt: a ?"


@pytest.mark.parametrize("path", ["/sdapi/v1/png-info", "/v1/infotext"])
def test_the_text_of_what_is_no_picture_is_refused(gateway: Gateway, path: str) -> None:
    answer = gateway.http.post(path, json={"image": base64.b64encode(b"a plain text").decode()})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("image is data of 12 bytes: it is no picture")


LISTS = [
    "sd-vae",
    "upscalers",
    "latent-upscale-modes",
    "prompt-styles",
    "embeddings",
    "loras",
    "hypernetworks",
    "face-restorers",
    "realesrgan-models",
    "scripts",
    "script-info",
    "cmd-flags",
    "memory",
    "samplers",
    "schedulers",
    "sd-models",
    "options",
    "progress",
]


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_list_answers_with_and_without_a_slash(gateway: Gateway, name: str, slash: str) -> None:
    answer = gateway.http.get(f"/sdapi/v1/{name}{slash}")
    assert answer.status_code == 200
    assert isinstance(answer.json(), list | dict)


def test_an_address_with_a_slash_at_its_end_is_the_same(gateway: Gateway) -> None:
    answer = httpx.get(f"{gateway.url}//sdapi/v1/options")
    assert answer.status_code == 200
    assert answer.json() == gateway.http.get("/sdapi/v1/options").json()


def test_ping_answers(gateway: Gateway) -> None:
    assert gateway.http.get("/internal/ping").json() == {}


def test_what_does_not_exist_is_told_in_a1111s_shape(gateway: Gateway) -> None:
    answer = gateway.http.post("/sdapi/v1/interrogates", json={})
    assert answer.status_code == 404
    assert answer.json().keys() >= {"error", "detail", "errors", "body"}


#: of A1111 1.10.1 with its API, and of its ControlNet extension
READ = """
    cmd-flags embeddings extensions face-restorers hypernetworks latent-upscale-modes loras memory options
    progress prompt-styles realesrgan-models samplers schedulers script-info scripts sd-models sd-vae
    upscalers"""
WRITTEN = """
    create/embedding create/hypernetwork extra-batch-images extra-single-image img2img interrogate interrupt
    options png-info refresh-checkpoints refresh-embeddings refresh-loras refresh-vae reload-checkpoint skip
    train/embedding train/hypernetwork txt2img unload-checkpoint"""
OF_CONTROL = "control_types model_list module_list settings version"


def test_every_route_of_a1111_is_here(gateway: Gateway, busy: FakeWorker) -> None:
    read = [f"/sdapi/v1/{name}" for name in READ.split()]
    read += [f"/controlnet/{name}" for name in OF_CONTROL.split()]
    assert {path: gateway.http.get(path).status_code for path in read} == dict.fromkeys(read, 200)
    written = [f"/sdapi/v1/{name}" for name in WRITTEN.split()]
    written += ["/controlnet/detect", "/controlnet/render_openpose_json"]
    told = {path: gateway.http.post(path, json={"width": 0}).status_code for path in written}
    assert {path for path, status in told.items() if status == 501} == {*REASONS}
    assert {status for path, status in told.items() if path not in REASONS} <= {200, 422}


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/sdapi/v1/interrogate", "CLIP, deepdanbooru"),
        ("/sdapi/v1/train/embedding", "does not train"),
        ("/sdapi/v1/create/hypernetwork", "does not train"),
        ("/controlnet/render_openpose_json", "poses"),
    ],
)
def test_routes_of_a1111_that_do_nothing_here_say_why(gateway: Gateway, path: str, named: str) -> None:
    answer = gateway.http.post(path, json={"image": "", "model": "clip"})
    assert answer.status_code == 501
    assert named in answer.json()["detail"]


def test_webuiapi_renders_lists_sets_and_stops(gateway: Gateway, busy: FakeWorker) -> None:
    api = webuiapi.WebUIApi(host="127.0.0.1", port=gateway.port)
    source = Image.open(io.BytesIO(picture(5)))
    result = api.img2img(images=[source], prompt="a cat", seed=5, steps=4, width=64, height=64, n_iter=2)
    assert [image.size for image in result.images] == [(64, 64)] * 2
    assert result.info["all_seeds"] == [5, 6]
    assert result.parameters["prompt"] == "a cat"
    masked = api.img2img(images=[source], mask_image=source.convert("L"), steps=4, width=64, height=64)
    assert masked.image.size == (64, 64)
    assert api.txt2img(prompt="a dog", steps=4, width=64, height=64).image.size == (64, 64)
    assert api.util_get_model_names() == ["m [0123456789]"]
    assert set(api.util_get_sampler_names()) == set(SAMPLERS)
    assert len(api.util_get_scheduler_names()) == len(SCHEDULERS)
    api.util_set_model("m")
    assert api.util_get_current_model() == "m [0123456789]"
    api.set_options({"CLIP_stop_at_last_layers": 2})
    assert api.get_options()["CLIP_stop_at_last_layers"] == 2
    api.util_wait_for_ready(check_interval=0.05)
    assert api.get_progress()["progress"] == 0
    assert "Seed: 5" in api.png_info(result.image).info
    for listed in (
        api.get_sd_vae,
        api.get_upscalers,
        api.get_latent_upscale_modes,
        api.get_loras,
        api.get_hypernetworks,
        api.get_face_restorers,
        api.get_realesrgan_models,
        api.get_prompt_styles,
        api.get_scripts,
        api.get_embeddings,
        api.get_memory,
        api.get_cmd_flags,
    ):
        assert listed() is not None
    assert api.interrupt() == {}
    assert api.skip() is None
    assert api.refresh_checkpoints() is None


def image_of(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))
