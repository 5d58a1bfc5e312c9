"""OpenAI's image API, by OpenAI's own package."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from img2img_shared.job import Job
from img2img_shared.ledger.previews import Previews
from img2img_shared.params import Params
from img2img_shared.records import WorkerInfo
from tests.eventually import eventually
from tests.integration.gateway import PATIENCE, Callers, FakeWorker, Gateway, picture

SMALL = {"width": 64, "height": 64, "steps": 4, "seed": 1}


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/openai/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def callers(fake_worker: FakeWorker) -> Iterator[Callers]:
    with Callers(fake_worker) as callers:
        yield callers


def job_of(fake_worker: FakeWorker) -> Job:
    """The newest."""
    newest = fake_worker.ledger.jobs("default")[0]
    return fake_worker.ledger.job(newest.id, "default")


def transparent(box: tuple[int, int, int, int]) -> bytes:
    """A mask of OpenAI's: what is in the box is to be painted."""
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), box)
    data = io.BytesIO()
    mask.save(data, "PNG")
    return data.getvalue()


def decoded(text: str | None) -> Image.Image:
    assert text is not None
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_an_edit_gives_as_many_pictures_as_are_wanted(
    client: openai.OpenAI, fake_worker: FakeWorker, callers: Callers
) -> None:
    call = callers.submit(
        client.images.edit,
        image=("a.png", picture(1)),
        prompt="a fox",
        model="gpt-image-1",
        n=2,
        quality="low",
        input_fidelity="high",
        output_format="jpeg",
        output_compression=80,
        extra_body={"seed": 7, "cfg_scale": 5.5},
    )
    for _ in range(2):
        fake_worker.end(fake_worker.await_claim())
    answer = call.result()
    assert answer.data is not None
    assert [decoded(each.b64_json).format for each in answer.data] == ["JPEG", "JPEG"]
    params = job_of(fake_worker).params
    wanted = Params(
        prompt="a fox",
        images_per_input=2,
        steps=12,
        denoising_strength=0.5,
        fit=0,
        output_format="jpeg",
        quality=80,
        seed=7,
        cfg_scale=5.5,
    )
    assert params.model_dump(exclude={"subseed"}) == wanted.model_dump(exclude={"subseed"})
    assert fake_worker.seeds == [7, 8]


def test_what_is_transparent_is_painted(
    client: openai.OpenAI, fake_worker: FakeWorker, callers: Callers
) -> None:
    call = callers.submit(
        client.images.edit,
        image=("a.png", picture(1)),
        mask=("mask.png", transparent((0, 0, 32, 64))),
        prompt="a hat",
        size="64x64",
    )
    fake_worker.end(fake_worker.await_claim())
    call.result()
    job = job_of(fake_worker)
    assert (job.params.width, job.params.height, job.params.fit) == (64, 64, None)
    mask = Image.open(io.BytesIO(fake_worker.store.get(job.pictures["mask"])))
    assert mask.mode == "L"
    assert mask.getcolors() == [(2048, 0), (2048, 255)]
    assert mask.crop((0, 0, 32, 64)).getcolors() == [(2048, 255)]


def test_several_pictures_are_each_repainted(
    client: openai.OpenAI, fake_worker: FakeWorker, callers: Callers
) -> None:
    images = [(f"{number}.png", picture(number)) for number in range(3)]
    call = callers.submit(client.images.edit, image=images, prompt="snow", extra_body=SMALL)
    for _ in range(3):
        fake_worker.end(fake_worker.await_claim())
    answer = call.result()
    assert answer.data is not None
    assert len(answer.data) == 3
    assert job_of(fake_worker).n == 3


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI would drop the latter
def test_generations_and_variations(client: openai.OpenAI, fake_worker: FakeWorker, callers: Callers) -> None:
    call: Any = callers.submit(
        client.images.generate, prompt="a barn", size="128x64", extra_body={"steps": 4}
    )
    fake_worker.end(fake_worker.await_claim())
    (found,) = call.result().data
    assert decoded(found.b64_json).size == (128, 64)
    assert job_of(fake_worker).params.txt2img
    call = callers.submit(client.images.generate, prompt="a barn")
    fake_worker.end(fake_worker.await_claim())
    call.result()
    assert job_of(fake_worker).params.fit == 0  # as the model was made for
    call = callers.submit(client.images.create_variation, image=("a.png", picture(1)), extra_body=SMALL)
    fake_worker.end(fake_worker.await_claim())
    assert len(call.result().data) == 1
    assert not job_of(fake_worker).params.txt2img


def test_an_address_instead_of_the_picture(
    client: openai.OpenAI, fake_worker: FakeWorker, callers: Callers
) -> None:
    call = callers.submit(
        client.images.edit,
        image=("a.png", picture(1)),
        prompt="a fox",
        response_format="url",
        extra_body=SMALL,
    )
    data = fake_worker.end(fake_worker.await_claim())
    answer = call.result()
    assert answer.data is not None
    assert answer.data[0].url is not None
    assert httpx.get(answer.data[0].url, timeout=PATIENCE).content == data


def test_pictures_on_the_way(
    gateway: Gateway, client: openai.OpenAI, fake_worker: FakeWorker, callers: Callers
) -> None:
    seen = threading.Event()
    told: list[Any] = []

    def follow() -> None:
        stream = client.images.edit(
            image=("a.png", picture(1)), prompt="a fox", stream=True, partial_images=1, extra_body=SMALL
        )
        for event in stream:
            told.append(event)
            seen.set()

    call = callers.submit(follow)
    claim = fake_worker.await_claim()
    previews = Previews(fake_worker.client)

    def shown() -> bool:
        previews.show(claim.job_id, 0, b"a jpeg")  # it is kept for seconds
        return seen.is_set()

    eventually("the picture on the way has come", shown)
    data = fake_worker.end(claim)
    call.result()
    assert [event.type for event in told] == ["image_edit.partial_image", "image_edit.completed"]
    assert base64.b64decode(told[0].b64_json) == b"a jpeg"
    assert base64.b64decode(told[1].b64_json) == data


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"extra_body": {"stepz": 4}}, "stepz"),
        ({"extra_body": {"denoising_strength": 7}}, "denoising_strength"),
        ({"n": 11}, "n"),
        ({"size": "huge"}, "size"),
        ({"background": "transparent"}, "background"),
        ({"mask": ("mask.png", picture(2))}, "mask"),
        ({"mask": ("mask.png", b"no picture")}, "mask"),
        ({"model": "none-such"}, "model"),
        ({"partial_images": 2}, "partial_images"),
    ],
)
@pytest.mark.usefixtures("fake_worker")
def test_a_wrong_field_is_named(client: openai.OpenAI, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.images.edit(**{"image": ("a.png", picture(1)), "prompt": "a fox", **changes})
    assert refused.value.param == field
    assert refused.value.type == "invalid_request_error"


def test_what_fails_is_told(client: openai.OpenAI, fake_worker: FakeWorker, callers: Callers) -> None:
    call = callers.submit(client.images.edit, image=("a.png", picture(1)), prompt="a fox", extra_body=SMALL)
    fake_worker.ledger.fail(fake_worker.await_claim(), "a black picture")
    with pytest.raises(openai.InternalServerError, match="a black picture"):
        call.result()
    stream = callers.submit(
        lambda: list(
            client.images.edit(image=("a.png", picture(1)), prompt="a", stream=True, extra_body=SMALL)
        )
    )
    fake_worker.ledger.fail(fake_worker.await_claim(), "a black picture")
    with pytest.raises(openai.APIError, match="a black picture"):
        stream.result()


def test_what_failed_is_not_rendered_again_by_the_client_itself(
    client: openai.OpenAI, fake_worker: FakeWorker, callers: Callers
) -> None:
    retrying = client.with_options(max_retries=2)
    call = callers.submit(retrying.images.generate, prompt="a fox", extra_body=SMALL)
    fake_worker.ledger.fail(fake_worker.await_claim(), "a black picture")
    with pytest.raises(openai.InternalServerError, match="a black picture"):
        call.result()
    assert len(fake_worker.ledger.jobs("default")) == 1


def test_nothing_is_kept_of_what_was_answered(
    client: openai.OpenAI, fake_worker: FakeWorker, callers: Callers
) -> None:
    call = callers.submit(client.images.edit, image=("a.png", picture(1)), prompt="a fox", extra_body=SMALL)
    fake_worker.end(fake_worker.await_claim())
    call.result()
    job = job_of(fake_worker)
    eventually(
        "it is gone", lambda: not [key for key in fake_worker.store.list(f"jobs/{job.id}") if ".png" in key]
    )


def test_the_models_are_listed_and_found(client: openai.OpenAI, fake_worker: FakeWorker) -> None:
    (listed,) = client.models.list()
    assert (listed.id, listed.object) == ("m", "model")
    beside = WorkerInfo(id="w2", model="sub/xl", device="none", slots=1, file_name="xl.safetensors")
    fake_worker.ledger.beat(beside)
    assert [each.id for each in client.models.list()] == ["m", "sub/xl"]
    assert client.models.retrieve("sub/xl").id == client.models.retrieve("xl.safetensors").id == "sub/xl"
    with pytest.raises(openai.NotFoundError, match="use m, sub/xl") as unknown:
        client.models.retrieve("gpt-image-1")
    assert unknown.value.param == "model"


def test_what_is_not_here_is_told_in_openais_shape(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no POST /openai/v1/chat/completions"):
        client.chat.completions.create(model="m", messages=[])


def test_the_address_that_was_told_before_still_has_the_images(
    gateway: Gateway, fake_worker: FakeWorker, callers: Callers
) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
        call = callers.submit(client.images.generate, prompt="a barn", extra_body=SMALL)
        fake_worker.end(fake_worker.await_claim())
        assert len(call.result().data or ()) == 1
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            client.images.generate(prompt="a barn", n=11)
        assert refused.value.param == "n"


def test_null_is_the_default(client: openai.OpenAI, fake_worker: FakeWorker, callers: Callers) -> None:
    names = ("background", "model", "n", "quality", "response_format", "size", "style", "output_compression")
    nulls: dict[str, Any] = dict.fromkeys(names)
    extra = {"seed": None, "steps": 4}
    call: Any = callers.submit(lambda: client.images.generate(prompt="a barn", **nulls, extra_body=extra))
    fake_worker.end(fake_worker.await_claim())
    assert len(call.result().data or ()) == 1
    assert job_of(fake_worker).params.steps == 4


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ({"quality": "xhigh"}, {"steps": 40}),
        ({"quality": "max"}, {"steps": 50}),
        ({"output_compression": 100}, {"output_format": "png"}),
        ({"output_compression": 100, "output_format": "webp"}, {"output_format": "webp", "quality": 100}),
        ({"safety_identifier": "a hash", "user": "me"}, {}),
    ],
)
def test_what_newer_clients_send_is_known(
    client: openai.OpenAI,
    fake_worker: FakeWorker,
    callers: Callers,
    wanted: dict[str, Any],
    meant: dict[str, Any],
) -> None:
    call: Any = callers.submit(lambda: client.images.generate(prompt="a barn", **wanted))
    fake_worker.end(fake_worker.await_claim())
    call.result()
    params = job_of(fake_worker).params
    assert {name: getattr(params, name) for name in meant} == meant


def test_what_fails_once_the_answer_has_begun_is_told_in_openais_shape(
    redis_url: str, store: Path, fake_worker: FakeWorker
) -> None:
    with Gateway(redis_url, store, keep_alive=0.05) as gateway:
        body = {"prompt": "a barn", **SMALL}
        with gateway.http.stream("POST", "/openai/v1/images/generations", json=body) as answer:
            assert answer.status_code == 200
            parts = answer.iter_raw()
            assert next(parts).isspace()
            fake_worker.ledger.fail(fake_worker.await_claim(), "a black picture")
            told = json.loads(b"".join(parts))
    assert "a black picture" in told["error"]["message"]
    assert told["error"]["type"] == "server_error"
