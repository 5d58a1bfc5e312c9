"""What the page looks at: thumbnails, the states of many images, all of one image, workers' orders."""

import io
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from img2img_gateway.api_keys import ApiKeys
from img2img_gateway.thumbnailer import KEPT, LARGEST
from img2img_shared.ledger import FarmRedis
from img2img_shared.records import WorkerOrder, WorkerReport
from img2img_shared.store import Store
from tests.eventually import eventually
from tests.faults.malicious_input import broken
from tests.integration.gateway import FakeWorker, Gateway, picture


def uploaded(gateway: Gateway, *files: tuple[str, bytes], **form: str) -> str:
    data = {"model": "m", "steps": "2", "width": "64", "height": "96", **form}
    sent = [("image", each) for each in files]
    return str(gateway.http.post("/v1/jobs/upload", data=data, files=sent).raise_for_status().json()["id"])


def opened(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/webp"
    return Image.open(io.BytesIO(answer.content))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def test_of_a_damaged_picture_there_is_no_thumbnail(gateway: Gateway) -> None:
    samples = list(broken())
    files = [("image", (sample.name, sample.data)) for sample in samples]
    form = {"model": "m", "width": "64", "height": "64"}
    job = gateway.http.post("/v1/jobs/upload", data=form, files=files).raise_for_status().json()["id"]
    for index, sample in enumerate(samples):
        answer = gateway.http.get(f"/v1/jobs/{job}/inputs/{index}/thumbnail/image")
        assert answer.status_code in (200, 204), sample.name


def test_a_thumbnail_is_small_and_asked_for_once(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job = uploaded(gateway, ("a.png", picture(1)))
    address = f"/v1/jobs/{job}/images/0/thumbnail"
    assert gateway.http.get(address).status_code == 204
    fake_worker.work()
    first = gateway.http.get(address, params={"size": 32})
    assert opened(first).size == (21, 32)
    assert first.headers["cache-control"] == "private, no-cache"
    again = gateway.http.get(
        address, params={"size": 32}, headers={"If-None-Match": f"W/{first.headers['etag']}"}
    )
    assert (again.status_code, again.content) == (304, b"")
    other = gateway.http.get(address, params={"size": 33}, headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200
    for path in (f"/v1/jobs/{job}/images/1/thumbnail", "/v1/jobs/0123456789abcdef/images/0/thumbnail"):
        assert gateway.http.get(path).status_code == 404
    assert gateway.http.get(address, params={"size": 4096}).status_code == 422


def test_a_job_is_seen_by_its_first_results_and_before_by_its_input(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    job = uploaded(gateway, ("a.png", picture(7, 48)), ("b.png", picture(8)))
    address = f"/v1/jobs/{job}/thumbnail"
    assert opened(gateway.http.get(address)).size == (48, 48)
    assert gateway.http.get(address, params={"number": 1}).status_code == 204
    fake_worker.work()
    for number in range(2):
        assert opened(gateway.http.get(address, params={"number": number})).size == (64, 96)
    assert gateway.http.get(address, params={"number": 2}).status_code == 204
    assert opened(gateway.http.get(f"/v1/jobs/{job}/inputs/0/thumbnail/image")).size == (48, 48)
    assert gateway.http.get(f"/v1/jobs/{job}/inputs/0/thumbnail/mask").status_code == 204


KINDS = {
    "16 bits": encoded(Image.new("I;16", (80, 80), 40_000)),
    "palette": encoded(Image.new("P", (80, 80)), "GIF"),
    "grey with alpha": encoded(Image.new("LA", (80, 80), (9, 80))),
    "float": encoded(Image.new("F", (80, 80), 0.5), "TIFF"),
    "cmyk": encoded(Image.new("CMYK", (80, 80)), "JPEG"),
    "turned": encoded(
        Image.new("RGB", (80, 40)),
        "JPEG",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    ),
}
HOSTILE = {
    "text": b"<script>alert(1)</script>",
    "half": picture(1, 400)[:300],
    "bomb": encoded(Image.new("1", (LARGEST // 1000 + 1, 1000))),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
}


def test_pictures_of_any_kind_are_shown_and_what_is_none_is_not(gateway: Gateway) -> None:
    job = uploaded(gateway, *[(name, data) for name, data in (KINDS | HOSTILE).items()])
    for index, name in enumerate(KINDS):
        with opened(
            gateway.http.get(f"/v1/jobs/{job}/inputs/{index}/thumbnail/image", params={"size": 64})
        ) as image:
            image.load()
            assert image.size == ((32, 64) if name == "turned" else (64, 64)), name
    for index, name in enumerate(HOSTILE, len(KINDS)):
        answer = gateway.http.get(f"/v1/jobs/{job}/inputs/{index}/thumbnail/image")
        assert (answer.status_code, answer.content) == (204, b""), name
        whole = gateway.http.get(f"/v1/jobs/{job}/inputs/{index}/image")
        assert whole.headers["x-content-type-options"] == "nosniff"
        assert "html" not in whole.headers["content-type"]
        assert "svg" not in whole.headers["content-type"]


def test_thumbnails_take_no_more_memory_than_they_may(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KEPT < 100_000_000
    monkeypatch.setattr("img2img_gateway.thumbnailer.KEPT", 3000)
    job = uploaded(gateway, *[(f"{number}.png", picture(number)) for number in range(12)])
    for index in range(12):
        opened(gateway.http.get(f"/v1/jobs/{job}/inputs/{index}/thumbnail/image"))
    for index in range(12):  # also what was dropped meanwhile
        opened(gateway.http.get(f"/v1/jobs/{job}/inputs/{index}/thumbnail/image"))


def test_all_images_are_told_at_a_glance(gateway: Gateway, fake_worker: FakeWorker) -> None:
    files = [(f"{name}.png", picture(at)) for at, name in enumerate("abcdef")]
    job = uploaded(gateway, *files)
    for claim in [fake_worker.await_claim() for _ in range(4)]:
        if claim.index == 1:
            fake_worker.ledger.fail(claim, "it was no picture")
        elif claim.index != 3:
            fake_worker.end(claim)
    get = gateway.http.get
    runs = [["done", 1], ["failed", 1], ["done", 1], ["running", 1], ["pending", 2]]
    assert get(f"/v1/jobs/{job}/states").json() == {"runs": runs, "next": None}
    some = get(f"/v1/jobs/{job}/states", params={"start": 1, "limit": 2}).json()
    assert some == {"runs": [["failed", 1], ["done", 1]], "next": 3}
    failed = get(f"/v1/jobs/{job}/images", params={"state": "failed"}).json()
    assert failed["next"] is None
    assert [(each["path"], each["reason"]) for each in failed["images"]] == [("b.png", "it was no picture")]
    done = get(f"/v1/jobs/{job}/images", params={"state": "done", "limit": 1}).json()
    assert ([each["index"] for each in done["images"]], done["next"]) == ([0], 1)
    fake_worker.give_up()


def test_one_image_is_told_with_all_that_it_is_made_from(gateway: Gateway, fake_worker: FakeWorker) -> None:
    inputs = [
        {"image": gateway.http.post("/v1/inputs", content=picture(at)).json()["key"], "name": f"n{at}"}
        for at in range(2)
    ]
    inputs[1]["prompt"] = "its own"
    body = {"model": "m", "params": {"prompt": "a cat", "seed": 7, "steps": 3}, "inputs": inputs}
    job = gateway.http.post("/v1/jobs", json=body).raise_for_status().json()["id"]
    before = gateway.http.get(f"/v1/jobs/{job}/images/1/details").json()
    assert (before["image"]["name"], before["infotext"]) == ("n1", None)
    assert before["params"]["prompt"] == "its own"
    assert (before["params"]["seed"], before["params"]["steps"]) == (8, 3)
    assert before["pictures"] == {"image": inputs[1]["image"]}
    fake_worker.work()
    after = gateway.http.get(f"/v1/jobs/{job}/images/1/details").json()
    assert after["infotext"].startswith("its own\n")
    assert "Seed: 8" in after["infotext"]
    assert gateway.http.get(f"/v1/jobs/{job}/images/2/details").status_code == 404


@pytest.mark.parametrize(("only", "names"), [("1", "b"), ("3,0-1,1", "abd"), ("2-900", "cd"), ("9", "")])
def test_some_pictures_come_in_an_archive(
    gateway: Gateway, fake_worker: FakeWorker, only: str, names: str
) -> None:
    job = uploaded(gateway, *[(f"{name}.png", picture(at)) for at, name in enumerate("abcd")])
    fake_worker.work()
    answer = gateway.http.get(f"/v1/jobs/{job}/results.zip", params={"only": only})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == [f"{name}.png" for name in names]


def test_workers_are_told_what_to_do_by_who_operates_them(
    redis_url: str, store: Path, farm_redis: FarmRedis, fake_worker: FakeWorker
) -> None:
    report = WorkerReport(last_error="out of memory, image 3 of a job", last_error_ago=5.0)
    fake_worker.ledger.beat(fake_worker._info, report)
    address = f"/v1/workers/{fake_worker.worker}/order"
    with Gateway(redis_url, store, api_auth="ann:secret") as gateway:
        auth = httpx.BasicAuth("ann", "secret")
        (told,) = gateway.http.get("/v1/workers", auth=auth).json()
        assert told["last_error"] == "out of memory, image 3 of a job"
        for order in (WorkerOrder.DRAIN, WorkerOrder.DISABLE, None):
            answer = gateway.http.put(address, json={"order": order}, auth=auth)
            assert answer.json() == {"workers": [fake_worker.worker], "order": order}
            assert fake_worker.ledger.beat(fake_worker._info).order == order
        assert (
            gateway.http.put("/v1/workers/nobody/order", json={"order": None}, auth=auth).status_code == 404
        )
        _, secret = ApiKeys(farm_redis, Store(store)).create("laptop", "one")
        key = {"X-API-Key": secret}
        fake_worker.ledger.beat(fake_worker._info, report)
        (told,) = eventually("it is let in", lambda: gateway.http.get("/v1/workers", headers=key).json())
        assert (told["last_error"], told["last_error_ago"]) == (None, None)
        assert gateway.http.put(address, json={"order": "drain"}, headers=key).status_code == 403
