"""A job that names a file which nobody has: refused when it is submitted, in whichever way."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from img2img_producer import Farm, Picture
from img2img_shared.errors import Refused
from img2img_shared.ledger.file_names import FileKind, FileNames
from img2img_shared.ledger.lora_names import LoraNames
from img2img_shared.pushed_models.pushed_model import ModelKind, PushedModel
from img2img_shared.records import WorkerInfo
from tests.integration.gateway import FakeWorker, Gateway, picture
from tests.integration.test_cli import run

HAS: dict[FileKind, list[str]] = {
    "checkpoint": ["m", "xl-refiner"],
    "control": ["edges [12345678]"],
    "face_restorer": ["GFPGAN"],
    "hypernetwork": ["lines"],
    "upscaler": ["4x-cat"],
    "vae": ["soft.safetensors"],
}
LORAS = {"ink": "Ink", "gold": "Gold leaf"}
HIRES = {"txt2img": True, "enable_hr": True, "denoising_strength": 0.5}
SMALL: dict[str, Any] = {"model": "m", "width": 64, "height": 64, "steps": 2}


@pytest.fixture
def farm(redis_url: str, store: Path) -> Iterator[Farm]:
    with Farm(redis_url, store) as farm:
        yield farm


@pytest.fixture
def worker(fake_worker: FakeWorker) -> FakeWorker:
    """It has said what it has."""
    say(fake_worker, fake_worker.worker)
    return fake_worker


def say(worker: FakeWorker, name: str) -> None:
    FileNames(worker.client).say(name, HAS)
    LoraNames(worker.client).say(name, LORAS)


def submit(farm: Farm, *own: dict[str, Any], **params: Any) -> str:
    pictures = [Picture(image=picture(1), **each) for each in own or ({},)]
    if params.get("txt2img"):
        pictures = [Picture()]
    return farm.submit(pictures, **{**({"model": "m"} if params.get("extras") else SMALL), **params})


def push(farm: Farm, kind: ModelKind, name: str, ending: str = ".safetensors") -> None:
    """As far as a submit is concerned."""
    model = name if kind == "checkpoint" else ""
    facts: Any = {"sha256": "a" * 64, "size": 1, "part": 1, "pushed": 0, "model": model}
    farm._service.model_index.put(PushedModel(kind=kind, name=name, ending=ending, **facts))
    farm._service.model_objects  # noqa: B018


@pytest.mark.parametrize(
    ("params", "field", "words"),
    [
        (
            {"prompt": "<lora:inc:1>"},
            "prompt",
            ("<lora:inc>", "did you mean ink?", "gold", "models push FILE"),
        ),
        ({"prompt": "<hypernet:line:1>"}, "prompt", ("<hypernet:line>", "lines", "models push FILE")),
        ({**HIRES, "hr_prompt": "<lora:inc:1>"}, "hr_prompt", ("<lora:inc>", "ink")),
        ({**HIRES, "hr_upscaler": "4x-dog"}, "hr_upscaler", ("4x-dog", "did you mean 4x-cat?")),
        ({**HIRES, "hr_checkpoint_name": "sd3"}, "hr_checkpoint_name", ("sd3", "xl-refiner")),
        (
            {"refiner_checkpoint": "sd3", "refiner_switch_at": 0.8},
            "refiner_checkpoint",
            ("sd3", "xl-refiner"),
        ),
        ({"upscaler_for_img2img": "4x-dog"}, "upscaler_for_img2img", ("4x-dog", "4x-cat", "Lanczos")),
        ({"vae": "sof"}, "vae", ("sof", "soft.safetensors", "Automatic", "models push FILE")),
        ({"control": [{"model": "depth"}]}, "control.0.model", ("depth", "edges", "models push FILE")),
        ({"restore_faces": True}, "face_restoration_model", ("CodeFormer", "GFPGAN")),
        ({"extras": True, "upscaler_1": "4x-dog"}, "upscaler_1", ("4x-dog", "4x-cat")),
    ],
)
@pytest.mark.usefixtures("worker")
def test_what_no_worker_has_is_refused_with_what_there_is(
    farm: Farm, params: dict[str, Any], field: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(Refused) as refused:
        submit(farm, **params)
    assert refused.value.field == field
    assert all(word in str(refused.value) for word in words), str(refused.value)
    assert not [*farm.jobs()]


@pytest.mark.usefixtures("worker")
def test_what_a_worker_has_is_taken(farm: Farm) -> None:
    submit(farm, prompt="<lora:ink:1> <lora:Gold leaf:1> <hypernet:lines:1>", vae="soft.safetensors")
    submit(farm, **HIRES, hr_upscaler="4x-cat", hr_prompt="<lora:ink:1>", hr_checkpoint_name="xl-refiner")
    submit(farm, **HIRES)
    submit(farm, upscaler_for_img2img="4x-cat", control=[{"model": "edge"}])
    submit(farm, restore_faces=True, face_restoration_model="GFPGAN")
    submit(farm, prompt="<lora:none:1>", disable_extra_networks=True)
    submit(farm, prompt="a boat # <lora:none:1>")


@pytest.mark.usefixtures("worker")
def test_an_input_of_its_own_is_named_by_its_place(farm: Farm) -> None:
    own: tuple[dict[str, Any], ...] = ({}, {"prompt": "<lora:ink:1>"}, {"prompt": "<lora:inc:1>"})
    with pytest.raises(Refused, match="did you mean ink") as refused:
        submit(farm, *own)
    assert refused.value.field == "inputs[2].prompt"
    with pytest.raises(Refused, match="xl-refiner") as refused:
        submit(farm, {"refiner_checkpoint": "sd3", "refiner_switch_at": 0.8})
    assert refused.value.field == "inputs[0].refiner_checkpoint"
    assert not [*farm.jobs()]


@pytest.mark.parametrize("kind", ["lora", "hypernetwork", "vae", "control", "upscaler"])
@pytest.mark.usefixtures("worker")
def test_what_was_pushed_is_there(farm: Farm, kind: ModelKind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm._service, "check_files", lambda _: None)
    push(farm, kind, "new")
    named: dict[str, dict[str, Any]] = {
        "lora": {"prompt": "<lora:new:1>"},
        "hypernetwork": {"prompt": "<hypernet:new:1>"},
        "vae": {"vae": "new"},
        "control": {"control": [{"model": "ne"}]},
        "upscaler": {"upscaler_for_img2img": "new"},
    }
    submit(farm, **named[kind])


def test_where_nobody_can_tell_it_is_taken(farm: Farm, fake_worker: FakeWorker) -> None:
    wanted = {"prompt": "<lora:inc:1>", "vae": "sof", "refiner_checkpoint": "sd3", "refiner_switch_at": 0.8}
    submit(farm, **wanted)  # no worker has said what it has
    say(fake_worker, fake_worker.worker)
    with pytest.raises(Refused):
        submit(farm, **wanted)
    for name, model in (("another", "m"), ("loads", "x")):  # which begins just now
        others = {} if model == "m" else {"m": "m"}
        info = WorkerInfo(id=name, model=model, device="none", slots=1, file_name="f", others=others)
        fake_worker.ledger.beat(info)
        submit(farm, **wanted)
        say(fake_worker, name)
        with pytest.raises(Refused):
            submit(farm, **wanted)
    fake_worker.ledger.bind_model("overnight", "b" * 64)
    submit(farm, **{**wanted, "model": "overnight"})  # whose workers come later


def test_a_repeat_is_the_job_that_was_taken(farm: Farm, fake_worker: FakeWorker) -> None:
    wanted = {"prompt": "<lora:inc:1>", "idempotency_key": "order-1", "seed": 1}
    job = submit(farm, {"prompt": "<lora:inc:2>"}, **wanted)
    say(fake_worker, fake_worker.worker)
    assert submit(farm, {"prompt": "<lora:inc:2>"}, **wanted) == job


@pytest.mark.usefixtures("worker")
def test_nobody_is_asked_what_it_has_where_nothing_is_named(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    call: Callable[..., Any] = farm._service.redis.call

    def noted(self: object, *words: Any) -> Any:
        asked.append(" ".join(map(str, words)))
        return call(*words)

    monkeypatch.setattr(type(farm._service.redis), "call", noted)
    own = [{"prompt": "<lora:ink:1>", "seed": number} for number in range(20)]
    submit(farm, {"prompt": "a boat", "seed": 1}, {"seed": 2})
    assert not [each for each in asked if each.startswith("MGET")]
    submit(farm, *own)
    assert len([each for each in asked if each.startswith("MGET")]) == 1


@pytest.mark.usefixtures("worker")
def test_it_is_the_same_by_every_way(gateway: Gateway, redis_url: str, store: Path, tmp_path: Path) -> None:
    body = {"params": {"prompt": "<lora:inc:1>"}, "inputs": [{"image": "aaaa"}], "model": "m"}
    answer = gateway.http.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "prompt")
    with Farm(gateway.url) as farm, pytest.raises(Refused, match="did you mean ink"):
        submit(farm, prompt="<lora:inc:1>")
    image = tmp_path / "a.png"
    image.write_bytes(picture(1))
    environment = {"IMG2IMG_REDIS_URL": redis_url, "IMG2IMG_STORE_URL": str(store), "COLUMNS": "200"}
    commands: list[list[str | Path]] = [["submit", image], ["render", image, "--out", tmp_path / "out"]]
    for command in commands:
        done = run(environment, *command, "--model", "m", "--prompt", "<lora:inc:1>", code=2)
        assert "prompt is '<lora:inc>': unknown LoRA; did you mean ink?" in " ".join(done.stderr.split())
