"""What a form of parameters is made from: the parameters, with what workers have now; and infotexts."""

import base64

import pytest
from redis import Redis

from img2img_shared.control import ControlUnit
from img2img_shared.ledger.connect import connect
from img2img_shared.ledger.file_names import FileNames
from img2img_shared.param_fields import GROUPS
from img2img_shared.param_reference import description
from img2img_shared.params import Params
from tests.integration.gateway import FakeWorker, Gateway, picture


def test_every_parameter_is_listed_in_its_group_with_all_that_a_form_needs(gateway: Gateway) -> None:
    answer = gateway.http.get("/v1/parameters").raise_for_status().json()
    groups = {group["title"]: [each["name"] for each in group["parameters"]] for group in answer["groups"]}
    assert groups == {heading: list(group.model_fields) for heading, group in GROUPS.items()}
    assert [each["name"] for each in answer["control_unit"]] == list(ControlUnit.model_fields)
    found = {each["name"]: each for group in answer["groups"] for each in group["parameters"]}
    assert {name: each["description"] for name, each in found.items()} == {
        name: description(name) for name in Params.model_fields
    }
    assert (
        found["steps"] | {"title": "Sampling steps", "minimum": 1, "maximum": 150, "default": 20}
        == found["steps"]
    )
    assert (found["width"]["multiple_of"], found["fit"]["nullable"], found["seed"]["maximum"]) == (
        8,
        True,
        None,
    )
    assert found["resize_mode"]["choices"][1] == {"value": 1, "title": "Crop and resize"}
    assert (found["hr_scale"]["switch"], found["images_per_input"]["is_own"]) == ("enable_hr", False)


def test_what_names_files_lists_those_that_workers_have(
    gateway: Gateway, fake_worker: FakeWorker, redis_url: str, redis: Redis
) -> None:
    files = {"upscaler": ["4x"], "vae": ["mse.pt"], "control": ["canny"], "checkpoint": ["refiner"]}
    with_redis = connect(redis_url)
    FileNames(with_redis).say(fake_worker.worker, files)  # type: ignore[arg-type]  # names of kinds
    answer = gateway.http.get("/v1/parameters").json()
    with_redis.close()
    listed = [*answer["control_unit"], *(each for group in answer["groups"] for each in group["parameters"])]
    choices = {each["name"]: [choice["value"] for choice in each["choices"] or ()] for each in listed}
    assert choices["upscaler_1"] == ["None", "Lanczos", "Nearest", "4x"]
    assert choices["hr_upscaler"][0] == "Latent"
    assert choices["hr_upscaler"][-1] == "4x"
    assert choices["vae"] == ["Automatic", "None", "mse.pt"]
    assert choices["model"] == ["None", "canny"]
    assert choices["refiner_checkpoint"] == ["refiner"]


def test_the_infotext_of_a_result_is_what_makes_it_again(gateway: Gateway, fake_worker: FakeWorker) -> None:
    form = {"model": "m", "steps": "3", "seed": "5", "prompt": "a cat", "width": "64", "height": "64"}
    job = (
        gateway.http.post("/v1/jobs/upload", data=form, files={"image": picture(1)}).raise_for_status().json()
    )
    fake_worker.work(1)
    result = gateway.http.get(f"/v1/jobs/{job['id']}/images/0/picture").content
    answer = gateway.http.post("/v1/infotext", json={"image": base64.b64encode(result).decode()}).json()
    told = answer["params"]
    assert {name: str(told[name]) for name in form if name != "model"} | {"model": answer["model"]} == form
    assert not answer["refused"]
    by_text = gateway.http.post("/v1/infotext", json={"infotext": answer["infotext"]}).json()
    assert by_text == answer


@pytest.mark.parametrize(
    "body", [{}, {"infotext": "a", "image": "aGk="}, {"image": "no base64!"}, {"text": "a"}]
)
def test_an_infotext_is_a_text_or_a_picture(gateway: Gateway, body: dict[str, str]) -> None:
    assert gateway.http.post("/v1/infotext", json=body).status_code == 422


def test_a_picture_without_an_infotext_tells_nothing(gateway: Gateway) -> None:
    body = {"image": base64.b64encode(picture(1)).decode()}
    answer = gateway.http.post("/v1/infotext", json=body).raise_for_status().json()
    assert (
        answer["infotext"],
        answer["params"].keys() - {"prompt", "negative_prompt", "sampler_name", "scheduler"},
    ) == ("", set())
