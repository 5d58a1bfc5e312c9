"""The farm's own API: jobs by JSON, form and reference; states, results, events, and what is refused."""

import base64
import hashlib
import io
import json
import socket
import threading
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from img2img_producer import Farm
from img2img_shared.farm import job_filter
from img2img_shared.job import PAGE, inputs_key, result_key
from img2img_shared.ledger.previews import Previews
from img2img_shared.wire import decode_inputs
from tests.eventually import eventually
from tests.integration.gateway import PATIENCE, FakeWorker, Gateway, picture

SMALL = {"width": 64, "height": 64, "steps": 4, "seed": 1}


def submit(
    gateway: Gateway, n: int = 1, *, headers: dict[str, str] | None = None, **params: Any
) -> dict[str, Any]:
    files = [("image", (f"pic-{i}.png", picture(i))) for i in range(n)]
    fields = {"model": "m", "params": json.dumps({**SMALL, **params})}
    answer = gateway.http.post("/v1/jobs/upload", data=fields, files=files, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    facts: dict[str, Any] = answer.json()
    return facts


def refusal(answer: httpx.Response, status: int = 422) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    facts: dict[str, Any] = answer.json()
    assert facts["status"] == status
    assert facts["title"]
    return facts


def test_a_form_of_pictures_becomes_a_job_and_its_results_come_back(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    job = submit(gateway, 3, prompt="a cat")
    assert (job["n"], job["pending"], job["state"]) == (3, 3, "pending")
    results = {index: fake_worker.end(fake_worker.await_claim()) for index in range(3)}
    assert gateway.http.get(f"/v1/jobs/{job['id']}").json()["state"] == "done"
    listed = gateway.http.get(f"/v1/jobs/{job['id']}/results").json()
    assert [each["name"] for each in listed["results"]] == ["pic-0.png", "pic-1.png", "pic-2.png"]
    for each in listed["results"]:
        answer = gateway.http.get(each["url"])
        assert answer.content == results[each["index"]]
        assert answer.headers["content-type"] == "image/png"
    with zipfile.ZipFile(
        io.BytesIO(gateway.http.get(f"/v1/jobs/{job['id']}/results.zip").content)
    ) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            f"pic-{index}.png": data for index, data in results.items()
        }


def test_what_is_stored_beside_a_picture_is_given_too(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job = submit(gateway, 1, loopback=True, loopback_return_all=True)["id"]
    fake_worker.end(fake_worker.await_claim())
    fake_worker.store.put(result_key(job, 0, "png", "loop-0"), b"earlier")
    address = f"/v1/jobs/{job}/images/0/picture"
    assert gateway.http.get(address, params={"beside": "loop-0"}).content == b"earlier"
    refusal(gateway.http.get(address, params={"beside": "mask"}), 404)
    refusal(gateway.http.get(address, params={"beside": "../0"}), 422)


def test_an_archive_goes_on_past_what_is_missing_and_names_it(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    job = submit(gateway, 4)["id"]
    for index in range(4):
        claim = fake_worker.await_claim()
        if index == 2:
            fake_worker.ledger.fail(claim, "too dark")
        else:
            fake_worker.end(claim)
    fake_worker.store.delete(f"jobs/{job}/1.png")
    with zipfile.ZipFile(io.BytesIO(gateway.http.get(f"/v1/jobs/{job}/results.zip").content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["pic-0.png", "pic-3.png", "missing.txt"]
        assert archive.read("missing.txt").decode().splitlines() == [
            "1 pic-1.png: the store does not have it any more",
            "2 pic-2.png: too dark",
        ]
    part = gateway.http.get(f"/v1/jobs/{job}/results.zip", params={"start": 2, "limit": 2})
    with zipfile.ZipFile(io.BytesIO(part.content)) as archive:
        assert archive.namelist() == ["pic-3.png", "missing.txt"]


def test_a_page_of_a_million_outputs_is_named_by_itself(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job = submit(gateway, 1, images_per_input=1_000_000)["id"]
    fake_worker.end(fake_worker.await_claim())
    listed = gateway.http.get(f"/v1/jobs/{job}/results", params={"limit": 1}).json()
    assert ([each["name"] for each in listed["results"]], listed["next"]) == (["pic-0.png"], 1)
    assert refusal(gateway.http.get(f"/v1/jobs/{job}/results.zip"))["field"] == "limit"
    gateway.http.post(f"/v1/jobs/{job}/cancel")


def test_more_than_a_page_of_pictures_comes_through(gateway: Gateway, fake_worker: FakeWorker) -> None:
    files = [("image", ("same.png", picture(1)))] * (PAGE + 1)
    answer = gateway.http.post("/v1/jobs/upload", data={"model": "m"}, files=files)
    assert answer.json()["n"] == PAGE + 1
    page = gateway.http.get(f"/v1/jobs/{answer.json()['id']}/images", params={"limit": 1000}).json()
    assert (len(page["images"]), page["next"]) == (1000, 1000)
    rest = gateway.http.get(f"/v1/jobs/{answer.json()['id']}/images", params={"start": 1000}).json()
    assert ([each["index"] for each in rest["images"]], rest["next"]) == ([1000], None)


def test_parameters_may_be_fields_of_the_form(gateway: Gateway, fake_worker: FakeWorker) -> None:
    fields = {
        "model": "m",
        "prompt": "a cat",
        "steps": "7",
        "denoising_strength": "0.4",
        "mask_round": "false",
    }
    answer = gateway.http.post("/v1/jobs/upload", data=fields, files=[("image", ("a.png", picture()))])
    params = gateway.http.get(f"{answer.headers['location']}/params").json()
    assert (params["prompt"], params["steps"], params["denoising_strength"]) == ("a cat", 7, 0.4)
    assert params["mask_round"] is False
    assert params["seed"] >= 0


def test_a_picture_under_another_name_is_refused_with_the_names_it_may_have(gateway: Gateway) -> None:
    answer = gateway.http.post("/v1/jobs/upload", files=[("images", ("a.png", picture()))])
    told = refusal(answer)
    assert told["field"] == "images"
    assert "pictures under the name image, mask" in told["allowed"]


def test_masks_of_a_form_go_with_their_pictures(
    gateway: Gateway, fake_worker: FakeWorker, redis_url: str
) -> None:
    files = [
        ("mask", ("all.png", picture(9))),
        ("image", ("a.png", picture(1))),
        ("mask", ("a-mask.png", picture(8))),
        ("image", ("b.png", picture(2))),
    ]
    job = gateway.http.post("/v1/jobs/upload", data={"model": "m"}, files=files).json()
    with Farm(redis_url, fake_worker.store.url) as farm:
        written = farm.job(job["id"])
    assert fake_worker.store.get(written.pictures["mask"]) == picture(9)
    first, second = decode_inputs(fake_worker.store.get(inputs_key(job["id"], 0)))
    assert fake_worker.store.get(first.pictures["mask"]) == picture(8)
    assert "mask" not in second.pictures
    assert (first.name, second.name) == ("a", "b")


def test_json_takes_base64_and_references(gateway: Gateway, fake_worker: FakeWorker) -> None:
    key = gateway.http.post("/v1/inputs", content=picture(4)).json()["key"]
    assert key == f"inputs/{hashlib.sha256(picture(4)).hexdigest()}"
    body = {
        "model": "m",
        "params": {**SMALL, "prompt": "all"},
        "inputs": [
            {"image": key, "name": "uploaded"},
            {"image": base64.b64encode(picture(5)).decode(), "prompt": "own", "seed": 77},
        ],
        "priority": 5,
        "name": "summer",
    }
    answer = gateway.http.post("/v1/jobs", json=body)
    assert answer.status_code == 201
    assert answer.json()["name"] == "summer"
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    assert answer.json()["priority"] == 5
    assert fake_worker.work() == 2
    assert fake_worker.seeds == [1, 77]
    names = gateway.http.get(f"/v1/jobs/{answer.json()['id']}/results").json()["results"]
    assert [each["name"] for each in names] == ["uploaded.png", "00001.png"]


def test_a_job_tells_its_inputs(gateway: Gateway, fake_worker: FakeWorker) -> None:
    key = gateway.http.post("/v1/inputs", content=picture(4)).json()["key"]
    own = {"image": key, "name": "cat", "folder": "pets", "path": "photos/cat.png", "prompt": "own"}
    shared = base64.b64encode(picture(5)).decode()
    body = {"model": "m", "params": SMALL, "mask": shared, "inputs": [own, {"image": shared}]}
    job = gateway.http.post("/v1/jobs", json=body).json()["id"]
    address = f"/v1/jobs/{job}/inputs"
    listed = gateway.http.get(address).json()
    mask = f"inputs/{hashlib.sha256(picture(5)).hexdigest()}"
    assert listed["inputs"] == [
        {
            "index": 0,
            "name": "cat",
            "folder": "pets",
            "path": "photos/cat.png",
            "pictures": {"mask": mask, "image": key},
            "params": {"prompt": "own"},
        },
        {
            "index": 1,
            "name": None,
            "folder": None,
            "path": None,
            "pictures": {"mask": mask, "image": mask},
            "params": {},
        },
    ]
    assert listed["next"] is None
    assert [each["index"] for each in gateway.http.get(address, params={"start": 1}).json()["inputs"]] == [1]
    assert gateway.http.get(address, params={"limit": 1}).json()["next"] == 1
    image = gateway.http.get(f"{address}/0/image")
    assert (image.content, image.headers["content-type"]) == (picture(4), "image/png")
    assert gateway.http.get(f"{address}/1/mask").content == picture(5)
    for missing in (f"{address}/0/control/0", f"{address}/2/image"):
        refusal(gateway.http.get(missing), 404)


def test_an_upload_can_be_looked_for(gateway: Gateway) -> None:
    digest = hashlib.sha256(picture(6)).hexdigest()
    assert gateway.http.head(f"/v1/inputs/{digest}").status_code == 404
    gateway.http.post("/v1/inputs", content=picture(6))
    assert gateway.http.head(f"/v1/inputs/{digest}").status_code == 204


def test_a_repeat_with_the_same_idempotency_key_gives_the_first_job(gateway: Gateway, store: Path) -> None:
    headers = {"Idempotency-Key": "order-1"}
    files = [("image", (f"{number}.png", picture(number))) for number in range(2)]
    first, again = (
        gateway.http.post("/v1/jobs/upload", data={"model": "m"}, files=files, headers=headers)
        for _ in range(2)
    )
    assert (first.status_code, again.status_code) == (201, 200)
    assert (again.json()["id"], again.json()["n"]) == (first.json()["id"], 2)
    assert [path.parts[-3] for path in (store / "jobs").rglob("*.msgpack")] == [first.json()["id"]]


def test_jobs_come_in_pages_newest_first(gateway: Gateway) -> None:
    ids = [submit(gateway)["id"] for _ in range(3)]
    page = gateway.http.get("/v1/jobs", params={"limit": 2}).json()
    rest = gateway.http.get("/v1/jobs", params={"start": page["next"], "limit": 2}).json()
    assert [job["id"] for job in page["jobs"] + rest["jobs"]] == ids[::-1]
    assert rest["next"] is None


def test_jobs_are_found_by_what_people_know_of_them(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = {"model": "m", "tags": "summer, client=acme", **SMALL}
    files = {"image": ("a.png", picture())}
    named = gateway.http.post("/v1/jobs/upload", data={**form, "name": "Harbour"}, files=files).json()
    assert (named["tags"], named["owner"]) == (["client=acme", "summer"], gateway.settings.owner)
    image = base64.b64encode(picture()).decode()
    body = {"model": "m", "params": SMALL, "inputs": [{"image": image}], "tags": ["winter", "winter"]}
    winter = gateway.http.post("/v1/jobs", json=body).json()
    assert winter["tags"] == ["winter"]

    def found(**wanted: Any) -> list[str]:
        return [job["id"] for job in gateway.http.get("/v1/jobs", params=wanted).json()["jobs"]]

    assert found(search="harb") == found(tag=["summer", "client=acme"]) == [named["id"]]
    assert found(owner=gateway.settings.owner, state="pending") == [winter["id"], named["id"]]
    assert found(owner="nobody") == found(tag=["summer", "winter"]) == found(model="other") == []
    monkeypatch.setattr(job_filter, "SHARE", 1)
    monkeypatch.setattr(job_filter, "LOOKED_THROUGH", 1)
    page = gateway.http.get("/v1/jobs", params={"tag": "summer"}).json()
    assert page["jobs"] == [], "a page looks through so many jobs, and no more"
    page = gateway.http.get("/v1/jobs", params={"tag": "summer", "start": page["next"]}).json()
    assert [job["id"] for job in page["jobs"]] == [named["id"]]


def test_a_page_of_found_jobs_goes_on_behind_its_last(gateway: Gateway) -> None:
    ids = [submit(gateway)["id"] for _ in range(3)]
    page = gateway.http.get("/v1/jobs", params={"limit": 2, "state": "pending"}).json()
    assert [job["id"] for job in page["jobs"]] == ids[:0:-1]
    rest = gateway.http.get("/v1/jobs", params={"start": page["next"], "state": "pending"}).json()
    assert ([job["id"] for job in rest["jobs"]], rest["next"]) == ([ids[0]], None)


def test_a_job_is_paused_resumed_reprioritised_and_cancelled(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    job = submit(gateway, 2)["id"]

    def change(verb: str) -> int:
        return int(gateway.http.post(f"/v1/jobs/{job}/{verb}").json()["changed"])

    assert change("pause") == 1
    assert change("pause") == 0
    assert fake_worker.claim() is None
    assert change("resume") == 1
    assert gateway.http.put(f"/v1/jobs/{job}/priority", json={"priority": 7}).json() == {"changed": 1}
    assert gateway.http.get(f"/v1/jobs/{job}").json()["priority"] == 7
    fake_worker.end(fake_worker.await_claim())
    assert change("cancel") == 1
    assert gateway.http.get(f"/v1/jobs/{job}").json()["state"] == "cancelled"
    assert refusal(gateway.http.post(f"/v1/jobs/{job}/resume"))["field"] == "job"


def test_failed_images_say_why_and_get_another_chance(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job = submit(gateway)["id"]
    fake_worker.ledger.fail(fake_worker.await_claim(), "too dark")
    image = gateway.http.get(f"/v1/jobs/{job}/images/0").json()
    assert (image["state"], image["reason"]) == ("failed", "too dark")
    assert (image["input"], image["name"], image["path"]) == (0, "pic-0", "pic-0.png")
    assert "too dark" in refusal(gateway.http.get(f"/v1/jobs/{job}/images/0/picture"), 404)["detail"]
    assert gateway.http.post(f"/v1/jobs/{job}/retry").json() == {"changed": 1}
    assert fake_worker.work() == 1
    assert gateway.http.get(f"/v1/jobs/{job}/images/0").json()["state"] == "done"


def test_an_image_under_way_is_shown_to_who_looks(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job = submit(gateway)["id"]
    fake_worker.await_claim()
    assert gateway.http.get(f"/v1/jobs/{job}/images/0/preview").status_code == 204
    Previews(fake_worker.client).show(job, 0, b"a preview")
    assert gateway.http.get(f"/v1/jobs/{job}/images/0/preview").content == b"a preview"


def test_the_farm_is_told(gateway: Gateway, fake_worker: FakeWorker) -> None:
    assert gateway.http.get("/v1/models").json() == [{"name": "m", "workers": 1, "slots": 4}]
    assert gateway.http.get("/v1/workers").json()[0]["id"] == fake_worker.worker
    assert {"Euler", "DPM++ 2M"} <= {each["name"] for each in gateway.http.get("/v1/samplers").json()}
    assert "Karras" in gateway.http.get("/v1/schedulers").json()


def events(gateway: Gateway, job: str, last: str | None = None) -> list[dict[str, str]]:
    """All of a stream until it ends."""
    headers = {"Last-Event-ID": last} if last else {}
    found: list[dict[str, str]] = []
    with gateway.http.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if name:
                event[name] = value
            elif "data" in event:
                found.append(event)
                event = {}
    return found


def ended(found: list[dict[str, str]]) -> list[int]:
    return [
        each["index"]
        for event in found
        for each in json.loads(event["data"])["events"]
        if each["state"] == "done" and each["index"] is not None
    ]


def test_events_are_told_until_the_job_has_ended(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job = submit(gateway, 5)["id"]
    found: list[dict[str, str]] = []
    watcher = threading.Thread(target=lambda: found.extend(events(gateway, job)), daemon=True)
    watcher.start()
    for _ in range(5):
        fake_worker.end(fake_worker.await_claim())
    watcher.join(120)
    assert not watcher.is_alive()
    assert ended(found) == [0, 1, 2, 3, 4]
    assert [event["event"] for event in found].count("end") == 1
    assert found[-1]["event"] == "end"
    last = json.loads(found[-1]["data"])
    assert (last["state"], last["done"], last["n"]) == ("done", 5, 5)


def test_a_broken_stream_goes_on_after_its_last_event(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job = submit(gateway, 4)["id"]
    fake_worker.work(2)
    with gateway.http.stream("GET", f"/v1/jobs/{job}/events") as response:
        lines = response.iter_lines()
        last = next(line for line in lines if line.startswith("id: ")).removeprefix("id: ")
    fake_worker.work(2)
    assert ended(events(gateway, job, last)) == [2, 3]
    assert ended(events(gateway, job)) == [0, 1, 2, 3]


def test_the_events_of_a_job_that_ended_are_told_at_once(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job = submit(gateway, 2)["id"]
    fake_worker.work()
    found = events(gateway, job)
    assert [event["event"] for event in found] == ["end"]
    assert events(gateway, job, found[-1]["id"]) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"inputs": []}, "inputs"),
        ({}, "inputs"),
        ({"inputs": [{"image": "***"}]}, "inputs[0].image"),
        ({"inputs": [{"image": "inputs/" + "0" * 64}]}, "inputs[0].image"),
        ({"inputs": [{}]}, "inputs.0.image"),
        ({"inputs": [{"image": "QQ==", "colour": 1}]}, "inputs.0.colour"),
        ({"inputs": [{"image": "QQ==", "seed": 2**64}]}, "inputs.0.seed"),
        ({"inputs": [{"image": "QQ=="}, {"image": "QQ==", "params": {"steps": 0}}]}, "inputs.1.steps"),
        ({"inputs": [{"image": "QQ==", "images_per_input": 2}]}, "inputs.0.images_per_input"),
        ({"inputs": [{"image": "QQ==", "output_format": "png"}]}, "inputs.0.output_format"),
        ({"inputs": [{"image": "QQ==", "eta": 0.5}]}, "inputs.0.eta"),
        ({"inputs": [{"image": "QQ==", "control/0": "QQ=="}]}, "inputs.0.control/0"),
        ({"inputs": [{"image": "QQ==", "pictures": {"contrl": "QQ=="}}]}, "inputs.0.pictures"),
        ({"inputs": [{"image": "QQ==", "pictures": ["QQ=="]}]}, "inputs.0.pictures"),
        ({"inputs": [{"image": "QQ==", "folder": "../up"}]}, "inputs.0.folder"),
        ({"inputs": [{"image": "QQ=="}], "params": {"steps": 0}}, "params.steps"),
        ({"inputs": [{"image": "QQ=="}], "params": {"nonesuch": 0}}, "params.nonesuch"),
        ({"inputs": [{"image": "QQ=="}], "params": {"sampler_name": "x"}}, "sampler_name"),
        ({"inputs": [{"image": "QQ=="}], "priority": 101}, "priority"),
        ({"inputs": [{"image": "QQ=="}], "mask": "***"}, "mask"),
        ({"inputs": [{"image": "QQ=="}], "webhook": {"url": "ftp://x"}}, "webhook.url"),
        ({"inputs": [{"image": "QQ=="}], "webhook": {"url": "http://example.org"}}, "webhook.url"),
        ({"inputs": [{"image": "QQ=="}], "webhook": {"url": "https://127.0.0.1/"}}, "webhook.url"),
        ({"inputs": [{"image": "QQ=="}], "webhook": {"url": "https://[::1]/"}}, "webhook.url"),
        ({"inputs": [{"image": "QQ=="}], "webhook": {"url": "https://u:p@9.9.9.9/"}}, "webhook.url"),
    ],
)
def test_a_wrong_request_is_refused_by_its_field(gateway: Gateway, body: dict[str, Any], field: str) -> None:
    assert refusal(gateway.http.post("/v1/jobs", json={"model": "m", **body}))["field"] == field
    assert gateway.http.get("/v1/jobs").json()["jobs"] == []


def test_what_follows_a_picture_of_a_form_is_its_own(gateway: Gateway, fake_worker: FakeWorker) -> None:
    files = [
        ("image", ("day/a.png", picture(1))),
        ("params", (None, b'{"prompt": "rain", "seed": 7, "sampler_name": "DPM++ 2M Karras"}')),
        ("mask", ("m.png", picture(8))),
        ("image", ("b.png", picture(2))),
    ]
    job = gateway.http.post("/v1/jobs/upload", data={"model": "m", "steps": "9"}, files=files).json()
    first, second = decode_inputs(fake_worker.store.get(inputs_key(job["id"], 0)))
    own = {"prompt": "rain", "seed": 7, "sampler_name": "DPM++ 2M", "scheduler": "Karras"}
    assert (first.params, sorted(first.pictures)) == (own, ["image", "mask"])
    assert (second.params, sorted(second.pictures)) == ({}, ["image"])


def test_inputs_of_json_have_parameters_and_pictures_by_name_or_in_maps(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    text = base64.b64encode(picture(1)).decode()
    body = {
        "model": "m",
        "params": {"steps": 9},
        "pictures": {"mask": text},
        "inputs": [
            {"image": text, "prompt": "", "cfg_scale": 3, "seed": None, "folder": "a/b", "name": "n"},
            {"pictures": {"image": text}, "params": {"cfg_scale": 4}},
            {"txt2img": True},
        ],
    }
    answer = gateway.http.post("/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    job = answer.json()["id"]
    found = decode_inputs(fake_worker.store.get(inputs_key(job, 0)))
    assert [item.params for item in found] == [
        {"prompt": "", "cfg_scale": 3.0},
        {"cfg_scale": 4.0},
        {"txt2img": True},
    ]
    assert [sorted(item.pictures) for item in found] == [["image"], ["image"], []]
    assert (found[0].folder, found[0].name) == ("a/b", "n")
    assert fake_worker.ledger.job(job, "default").pictures.keys() == {"mask"}


@pytest.mark.parametrize(
    ("files", "field"),
    [
        ([("image", ("a.png", b"x")), ("prompt", (None, b"late"))], "prompt"),
        ([("image", ("a.png", b"x")), ("params", (None, b"[1]"))], "params"),
        ([("image", ("a.png", b"x")), ("params", (None, b'{"steps": 0}'))], "inputs[0].steps"),
        ([("image", ("a.png", b"x")), ("params", (None, b'{"quality": 5}'))], "inputs[0].quality"),
        ([("image", ("a.png", b"x")), ("params", (None, b"{}")), ("params", (None, b"{}"))], "params"),
        ([("image", ("a.png", b"x")), ("mask", ("m", b"x")), ("mask", ("m", b"x"))], "mask"),
        ([("image", ("a.png", b"x")), ("control/0", ("c", b"x"))], "inputs[0].control/0"),
        ([("control/3", ("c", b"x")), ("image", ("a.png", b"x"))], "inputs[0].control/3"),
    ],
)
def test_what_a_form_gives_a_picture_wrongly_is_refused(
    gateway: Gateway, files: list[Any], field: str
) -> None:
    answer = gateway.http.post("/v1/jobs/upload", data={"model": "m"}, files=files)
    assert refusal(answer)["field"] == field
    assert gateway.http.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"steps": "0"}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"nonesuch": "1"}, "nonesuch"),
        ({"priority": "high"}, "priority"),
        ({"params": "[1]"}, "params"),
        ({"webhook": '{"url": "nowhere"}'}, "webhook.url"),
    ],
)
def test_a_wrong_field_of_a_form_is_refused(gateway: Gateway, fields: dict[str, str], field: str) -> None:
    files = [("image", ("a.png", picture()))]
    answer = gateway.http.post("/v1/jobs/upload", data={"model": "m", **fields}, files=files)
    assert refusal(answer)["field"] == field


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "*/*"])
def test_json_that_is_said_to_be_something_else_is_refused_with_the_way_out(
    gateway: Gateway, kind: str
) -> None:
    answer = gateway.http.post("/v1/jobs", content=b"{}", headers={"Content-Type": kind})
    told = refusal(answer, 415)
    assert told["field"] == "Content-Type"
    assert kind in told["detail"]
    assert "application/json" in told["detail"]


def test_forms_that_are_none_are_refused(gateway: Gateway) -> None:
    post = gateway.http.post
    refusal(post("/v1/jobs/upload", json={}), 415)
    for boundary in ("x", "x" * 5000):
        broken = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        assert refusal(post("/v1/jobs/upload", content=b"--x\r\nnothing", headers=broken))["field"] == "body"
    assert (
        refusal(post("/v1/jobs/upload", data={"model": "m"}, files=[("image", ("a.png", b""))]))["field"]
        == "image"
    )
    only_mask = [("mask", ("a.png", picture()))]
    assert refusal(post("/v1/jobs/upload", data={"model": "m"}, files=only_mask))["field"] == "inputs"


def test_what_is_too_large_is_refused_and_leaves_nothing(redis_url: str, store: Path) -> None:
    with Gateway(redis_url, store, max_upload=2000, max_body=5000, max_inputs=2) as gateway:
        files = [("image", ("a.png", picture())), ("image", ("b.png", bytes(2001)))]
        answer = gateway.http.post("/v1/jobs/upload", data={"model": "m"}, files=files)
        told = refusal(answer)
        assert (told["field"], "'b.png'" in told["detail"]) == ("image", True)
        many = [("image", ("a.png", picture()))] * 3
        assert (
            refusal(gateway.http.post("/v1/jobs/upload", data={"model": "m"}, files=many))["field"]
            == "inputs"
        )
        refusal(gateway.http.post("/v1/inputs", content=bytes(2001)), 413)
        body = {"inputs": [{"image": "A" * 6000}]}
        assert gateway.http.post("/v1/jobs", json=body).status_code == 413
        assert gateway.http.post("/sdapi/v1/img2img", json=body).status_code == 413
        # what the form's limits are, not the JSON body's
        enough = [("image", ("a.png", picture() + bytes(1800)))] * 2
        form = gateway.http.post("/v1/jobs/upload", data={"model": "m", "prompt": "a" * 3000}, files=enough)
        assert form.status_code == 201
    assert len(list((store / "jobs").rglob("*.msgpack"))) == 1


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/jobs/upload", "multipart/form-data; boundary=x"),
        ("/v1/jobs", "application/json"),
        ("/v1/inputs", "image/png"),
        ("/sdapi/v1/img2img", "application/json"),
    ],
)
def test_an_upload_that_stops_is_given_up(redis_url: str, store: Path, path: str, kind: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    head += f"Content-Type: {kind}\r\n\r\n"
    part = '--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nabc'
    with Gateway(redis_url, store, upload_timeout=0.2) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as connection:
            connection.sendall((head + part).encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 408")
        assert gateway.http.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    "path", ["/v1/jobs/nonesuch", "/v1/jobs/nonesuch/images", "/v1/jobs/nonesuch/events", "/v1/none"]
)
def test_what_is_not_there_is_not_found(gateway: Gateway, path: str) -> None:
    refusal(gateway.http.get(path), 404)


def test_an_image_beyond_the_job_is_not_found(gateway: Gateway) -> None:
    job = submit(gateway)["id"]
    refusal(gateway.http.get(f"/v1/jobs/{job}/images/1"), 404)
    refusal(gateway.http.get(f"/v1/jobs/{job}/images/1/picture"), 404)
    assert "pending" in refusal(gateway.http.get(f"/v1/jobs/{job}/images/0/picture"), 404)["detail"]


def test_the_reference_is_served_without_anything_from_elsewhere(gateway: Gateway) -> None:
    page = gateway.http.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    for script in ("/static-offline-docs/swagger-ui-bundle.js", "/static-offline-docs/swagger-ui.css"):
        assert script in page.text
        assert gateway.http.get(script).status_code == 200
    paths = gateway.http.get("/openapi.json").json()["paths"]
    assert {"/v1/jobs", "/sdapi/v1/img2img", "/v1/jobs/{job}/events"} <= paths.keys()


def test_redis_away_is_said_so(mortal_redis: Any, tmp_path: Path) -> None:
    with Gateway(mortal_redis.url, tmp_path / "store") as gateway:
        mortal_redis.kill()
        answer = gateway.http.get("/v1/jobs")
        assert refusal(answer, 503)["detail"] == "Redis does not answer"
        assert answer.headers["retry-after"]
        mortal_redis.start()
        eventually("it answers again", lambda: gateway.http.get("/v1/jobs").status_code == 200)


def test_pictures_on_s3_are_given_by_addresses_that_anyone_can_fetch(redis_url: str, s3_url: str) -> None:
    with Gateway(redis_url, s3_url) as gateway:
        fake_worker = FakeWorker(redis_url, s3_url)
        job = submit(gateway)["id"]
        data = fake_worker.end(fake_worker.await_claim())
        (found,) = gateway.http.get(f"/v1/jobs/{job}/results").json()["results"]
        assert "X-Amz-Signature" in found["url"]
        assert httpx.get(found["url"], timeout=PATIENCE).content == data


def test_a_removed_job_leaves_nothing_in_the_store(
    gateway: Gateway, fake_worker: FakeWorker, store: Path
) -> None:
    job = submit(gateway, 2)["id"]
    assert "cancel it first" in refusal(gateway.http.delete(f"/v1/jobs/{job}"))["detail"]
    fake_worker.work()
    assert gateway.http.delete(f"/v1/jobs/{job}").json() == {"removed": 3}  # two pictures, a page of inputs
    assert not [each for each in store.rglob("*") if each.is_file() and job in str(each)]
    assert len(list((store / "inputs").rglob("*"))) == 1 + 2, "what was uploaded stays"
    for answer in (gateway.http.get(f"/v1/jobs/{job}"), gateway.http.delete(f"/v1/jobs/{job}")):
        refusal(answer, 404)


@pytest.mark.usefixtures("fake_worker")
@pytest.mark.parametrize("prompt", ["boat <loha:ink:0.8>", "boat <LORA:ink:0.8>", "boat <lora:ink:0,8>"])
def test_a_tag_that_is_not_understood_is_refused(gateway: Gateway, prompt: str) -> None:
    files = [("image", ("a.png", picture()))]
    fields = {"model": "m", "prompt": prompt}
    facts = refusal(gateway.http.post("/v1/jobs/upload", data=fields, files=files))
    assert facts["field"] == "prompt"
    assert "write <lora:name:weight>" in facts["detail"]
    own: Any = [("image", ("a.png", picture())), ("params", (None, json.dumps({"prompt": prompt})))]
    facts = refusal(gateway.http.post("/v1/jobs/upload", data={"model": "m"}, files=own))
    assert "<" in facts["detail"]
    assert facts["field"].endswith("prompt")
    off = submit(gateway, prompt=prompt, disable_extra_networks=True)
    assert off["state"] == "pending", "all tags were switched off"
