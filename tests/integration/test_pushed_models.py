"""Models in the store: pushed, listed, named by jobs and removed, by Redis and by a gateway."""

import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from redis import Redis
from safetensors.torch import save_file

from img2img_gateway.api_keys import ApiKeys
from img2img_gateway.key_roles import Role
from img2img_producer import Farm
from img2img_shared.errors import FarmError, NotFound, Refused, StoreError, Unavailable
from img2img_shared.farm.service import FarmService
from img2img_shared.ledger import FarmRedis
from img2img_shared.pushed_models.model_index import ModelIndex
from img2img_shared.pushed_models.model_objects import ModelObjects
from img2img_shared.records import WorkerInfo, WorkerReport
from img2img_shared.store import Store
from tests.integration.gateway import FakeWorker, Gateway, picture

GATEWAY = {"api_auth": "root:secret"}
SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 2}


@pytest.fixture
def direct(redis_url: str, store: Path) -> Iterator[Farm]:
    """By its Redis and its store."""
    with Farm(redis_url, store) as farm:
        yield farm


@pytest.fixture
def through_gateway(gateway: Gateway, farm_redis: FarmRedis) -> Iterator[Farm]:
    """By its gateway, for an operator."""
    _, secret = _keys(gateway, farm_redis).create("op", "default", role=Role.OPERATE)
    with Farm(gateway.url, key=secret) as farm:
        yield farm


@pytest.fixture(params=["direct", "through_gateway"])
def farm(request: pytest.FixtureRequest, redis_url: str) -> Farm:
    found: Farm = request.getfixturevalue(request.param)
    return found


def _keys(gateway: Gateway, redis: FarmRedis) -> ApiKeys:
    return ApiKeys(redis, Store(str(gateway.settings.store_url)))


def write(path: Path, number: int, name: str = "lora_unet_x.lora_up.weight") -> Path:
    """A file of another hash for each number, which by `name` is a LoRA."""
    path.parent.mkdir(exist_ok=True)
    save_file({name: torch.full((2, 2), float(number))}, path)
    return path


def checkpoint(path: Path, number: int) -> Path:
    return write(path, number, "model.diffusion_model.input_blocks.0.0.weight")


def test_a_file_is_pushed_listed_pulled_and_removed(farm: Farm, store: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    file = write(tmp_path / "ink.safetensors", 1)
    pushed = farm.models.push(file, progress=lambda *each: told.append(each))
    size = file.stat().st_size
    assert not pushed.was_there
    assert (pushed.model.kind, pushed.model.name, pushed.model.size) == ("lora", "ink", size)
    assert told == [("reading", size, size), ("sending", size, size)]
    assert farm.models.all() == [pushed.model]
    for wanted in ("ink", pushed.model.short_hash, pushed.model.sha256):
        path = farm.models.pull(wanted, tmp_path / wanted)
        assert path.read_bytes() == file.read_bytes()
    again = farm.models.push(file)
    assert again.was_there
    assert farm.models.remove("ink") == again.model
    assert farm.models.all() == []
    assert not [each for each in (store / "models").rglob("*") if each.is_file()]
    with pytest.raises(NotFound, match="img2img models list"):
        farm.models.remove("ink")


def test_a_file_that_is_there_by_another_name_is_said_to_be(farm: Farm, tmp_path: Path) -> None:
    file = write(tmp_path / "ink.safetensors", 1)
    farm.models.push(file)
    with pytest.raises(Refused, match="the same file is there as lora ink"):
        farm.models.push(file, name="other")
    with pytest.raises(Refused, match="name is 'a/b'"):
        farm.models.push(write(tmp_path / "b.safetensors", 2), name="a/b")
    assert [each.name for each in farm.models.all()] == ["ink"]


def test_a_pull_overwrites_nothing_else(farm: Farm, tmp_path: Path) -> None:
    farm.models.push(write(tmp_path / "ink.safetensors", 1))
    other = write(tmp_path / "out" / "ink.safetensors", 2)
    with pytest.raises(Refused, match="another file is there"):
        farm.models.pull("ink", tmp_path / "out")
    assert other.read_bytes() == write(tmp_path / "2.safetensors", 2).read_bytes()


def test_jobs_keep_what_their_names_meant(direct: Farm, fake_worker: FakeWorker, tmp_path: Path) -> None:
    fake_worker.ledger.beat(WorkerInfo(id="w", model="m", device="none", slots=1))
    first = direct.models.push(write(tmp_path / "1.safetensors", 1), name="ink").model

    def submit(**params: Any) -> dict[str, str]:
        job = direct.submit([picture(1)], model="m", **SMALL, **params)
        return direct._service.ledger.job(job, "default").files

    before = submit(prompt="<lora:ink:1>")
    second = direct.models.push(write(tmp_path / "2.safetensors", 2), name="ink").model
    assert before == {"lora/ink": first.sha256}
    assert submit(prompt="<lora:ink:1>") == {"lora/ink": second.sha256}
    by_hash = first.sha256[:12]
    assert submit(prompt=f"<lora:{by_hash}:1>") == {f"lora/{by_hash}": first.sha256}
    assert submit(prompt="ink") == {}
    direct.models.push(tmp_path / "1.safetensors", name="ink")
    assert submit(prompt="<lora:ink:1>") == {"lora/ink": first.sha256}
    own: list[Mapping[str, Any]] = [{"image": picture(1), "prompt": "<lora:ink:1>"}, {"image": picture(2)}]
    job = direct.submit(own, model="m", **SMALL)
    assert direct._service.ledger.job(job, "default").files == {"lora/ink": first.sha256}


def test_a_checkpoint_that_nobody_serves_yet_can_be_named(
    direct: Farm, fake_worker: FakeWorker, tmp_path: Path
) -> None:
    fake_worker.ledger.beat(WorkerInfo(id="w", model="m", device="none", slots=1, sha256="f" * 64))
    fake_worker.ledger.bind_model("taken", "e" * 64)
    with pytest.raises(Refused, match="workers of this farm serve m"):
        direct.submit([picture(1)], model="anime", **SMALL)
    first = direct.models.push(checkpoint(tmp_path / "1.safetensors", 1), name="anime").model
    second = direct.models.push(checkpoint(tmp_path / "2.safetensors", 2), name="anime").model
    third = direct.models.push(checkpoint(tmp_path / "3.safetensors", 3), name="taken").model
    names = [each.model for each in (first, second, third)]
    assert names == ["anime", f"anime [{second.short_hash}]", f"taken [{third.short_hash}]"]
    for wanted, meant in (("anime", second), (first.sha256, first), ("taken", third), ("m", None)):
        job = direct._service.ledger.job(direct.submit([picture(1)], model=wanted, **SMALL), "default")
        if meant is not None:
            assert (job.model, job.files) == (meant.model, {f"checkpoint/{meant.model}": meant.sha256})
        else:
            assert (job.model, job.files) == ("m", {})


def test_a_job_says_why_workers_cannot_load_its_model(
    direct: Farm, fake_worker: FakeWorker, redis: Redis, tmp_path: Path
) -> None:
    direct.models.push(checkpoint(tmp_path / "anime.safetensors", 1))
    job = direct.submit([picture(1)], model="anime", **SMALL)
    assert direct.status(job).waits_for == "a worker that serves anime: there is none"
    report = WorkerReport(aside={"anime": "it is damaged"})
    fake_worker.ledger.beat(WorkerInfo(id="w", model="m", device="none", slots=1), report)
    assert direct.status(job).waits_for == "its workers, which cannot load anime for now: it is damaged (w)"
    for victim in ("one", "two"):
        assert fake_worker.ledger.move(victim, None, "anime", None)
        redis.zincrby(
            "{img2img}:model:loading:anime", -61_000, victim
        )  # a minute ago, and it has not come back
    redis.delete("{img2img}:board")
    told = str(direct.status(job).waits_for)
    assert told.startswith("another try of anime: 2 workers died as they loaded it")


def test_what_a_job_needs_stays_until_it_has_ended(farm: Farm, direct: Farm, tmp_path: Path) -> None:
    model = farm.models.push(checkpoint(tmp_path / "anime.safetensors", 1)).model
    job = direct.submit([picture(1)], model="anime", **SMALL)
    with pytest.raises(Refused, match=rf"img2img cancel them first \({job}\)"):
        farm.models.remove("anime")
    assert farm.models.all() == [model]
    assert farm.models.pull("anime", tmp_path / "out").is_file()
    direct.cancel(job)
    farm.models.remove(model.sha256)
    assert farm.models.all() == []


def test_a_redis_that_lost_its_data_is_told_by_the_store(
    direct: Farm, redis: Redis, store: Path, tmp_path: Path
) -> None:
    model = direct.models.push(write(tmp_path / "ink.safetensors", 1)).model
    redis.delete("{img2img}:gateway:models")
    with Farm(direct.redis_url, store) as another:
        assert another._service.model_index.find("lora", "ink") == model
    # an older copy knows what is not there any more, and not what came since
    known: Any = redis.hgetall("{img2img}:gateway:models")
    direct.models.remove("ink")
    later = direct.models.push(write(tmp_path / "2.safetensors", 2), name="later").model
    redis.delete("{img2img}:gateway:models")
    redis.hset("{img2img}:gateway:models", mapping=known)
    assert direct.models.all() == [later]
    assert direct._service.model_index.find("lora", "ink") is None


def test_what_others_put_there_hides_nothing(direct: Farm, redis: Redis, store: Path, tmp_path: Path) -> None:
    model = direct.models.push(write(tmp_path / "ink.safetensors", 1)).model
    newer = store / "models" / ("b" * 64)
    (newer / "parts").mkdir(parents=True)
    (newer / "about.json").write_text('{"kind": "of a newer version"}')
    (newer / "parts" / "README").write_text("no part")
    assert direct.models.all() == [model]
    assert direct._service.model_objects.sizes("b" * 64) == {}
    changed: dict[Any, Any] = {"b" * 64: '{"kind": "of a newer version"}', "": '"another"'}
    redis.hset("{img2img}:gateway:models", mapping=changed)
    assert direct._service.model_index.find("lora", "ink") == model


def test_the_janitor_leaves_models_alone(direct: Farm, tmp_path: Path) -> None:
    model = direct.models.push(write(tmp_path / "ink.safetensors", 1)).model
    direct.submit([picture(1)], model="m", **SMALL)
    direct.clean(uploads=0.0, orphans=0.0)
    assert direct.models.all() == [model]
    assert (
        direct.models.pull("ink", tmp_path / "out").read_bytes()
        == (tmp_path / "ink.safetensors").read_bytes()
    )


def test_nobody_names_a_file_from_when_it_is_looked_for_in_jobs_until_it_is_removed(
    direct: Farm, fake_worker: FakeWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = direct.models.push(checkpoint(tmp_path / "anime.safetensors", 1)).model
    jobs_that_need = FarmService._jobs_that_need

    def looked(service: FarmService, sha256: str) -> Iterator[str]:
        yield from jobs_that_need(service, sha256)
        assert direct.models.all() == []
        with pytest.raises(Refused, match="workers of this farm serve m"):
            direct.submit([picture(1)], model="anime", **SMALL)
        with pytest.raises(Unavailable, match="is being removed"):
            direct.models.push(tmp_path / "anime.safetensors")

    monkeypatch.setattr(FarmService, "_jobs_that_need", looked)
    assert direct.models.remove("anime") == model
    assert not direct.models.push(tmp_path / "anime.safetensors").was_there
    assert direct.submit([picture(1)], model="anime", **SMALL)


def test_what_the_store_has_lost_of_a_model_is_pushed_again(farm: Farm, store: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "ink.safetensors", 1)
    model = farm.models.push(file).model
    (store / "models" / model.sha256 / "parts" / "000000").unlink()
    assert farm.models.push(file).was_there
    assert farm.models.pull("ink", tmp_path / "out").read_bytes() == file.read_bytes()


def test_a_removal_that_broke_off_is_gone_on_with_by_name(
    farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = farm.models.push(checkpoint(tmp_path / "anime.safetensors", 1)).model
    with monkeypatch.context() as patches:
        broken = StoreError("the store is away", transient=False)
        patches.setattr(ModelObjects, "remove", Mock(side_effect=broken))
        with pytest.raises(FarmError, match="the store is away"):
            farm.models.remove("anime")
    assert farm.models.remove("anime").sha256 == model.sha256
    assert farm.models.all() == []


def test_the_janitor_removes_what_a_push_has_left_and_nothing_that_others_put_beside_it(
    direct: Farm, store: Path, tmp_path: Path
) -> None:
    model = direct.models.push(write(tmp_path / "ink.safetensors", 1)).model
    direct.submit([picture(1)], model="m", **SMALL)
    theirs = [store / "models" / name for name in ("Lora/cat.safetensors", "My models/a.ckpt", "b.ckpt")]
    left = store / "models" / ("b" * 64) / "parts" / "000000"
    for each in (*theirs, left):
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_bytes(b"x")
    for each in (store / "models").rglob("*"):
        os.utime(each, (1, 1))
    direct.clean()
    assert [each.exists() for each in theirs] == [True, True, True]
    assert not left.exists()
    assert direct.models.all() == [model]


def test_only_operators_push_and_remove(gateway: Gateway, farm_redis: FarmRedis, tmp_path: Path) -> None:
    _, secret = _keys(gateway, farm_redis).create("alice", "default", role=Role.SUBMIT)
    with Farm(gateway.url, key=secret) as farm:
        for call in (
            farm.models.all,
            lambda: farm.models.push(write(tmp_path / "ink.safetensors", 1)),
            lambda: farm.models.pull("ink"),
            lambda: farm.models.remove("ink"),
        ):
            with pytest.raises(FarmError, match="a key with the role operate"):
                call()


def test_what_was_pushed_is_listed_while_no_worker_lives(
    gateway: Gateway, direct: Farm, tmp_path: Path
) -> None:
    for kind in ("lora", "embedding", "vae", "hypernetwork", "control", "upscaler"):
        name = "RealESRGAN_x4plus" if kind == "upscaler" else f"my-{kind}"
        (tmp_path / f"{name}.pt").write_text(kind)
        direct.models.push(tmp_path / f"{name}.pt", kind=kind)

    def listed(path: str) -> Any:
        return gateway.http.get(path, auth=("root", "secret")).json()

    assert [each["name"] for each in listed("/sdapi/v1/loras")] == ["my-lora"]
    assert [*listed("/sdapi/v1/embeddings")["loaded"]] == ["my-embedding"]
    assert [each["model_name"] for each in listed("/sdapi/v1/sd-vae")] == ["my-vae.pt"]
    assert [each["name"] for each in listed("/sdapi/v1/hypernetworks")] == ["my-hypernetwork"]
    assert {"R-ESRGAN 4x+", "RealESRGAN_x4plus"} < {each["name"] for each in listed("/sdapi/v1/upscalers")}
    assert listed("/controlnet/model_list") == {"model_list": ["my-control"]}
    assert "my-control" in listed("/controlnet/control_types")["control_types"]["All"]["model_list"]


def test_a_push_through_a_gateway_ends_only_with_all_parts(gateway: Gateway, redis_url: str) -> None:
    sha256 = "a" * 64
    body = {"kind": "lora", "name": "ink", "ending": ".safetensors", "sha256": sha256, "size": 10}
    root = ("root", "secret")
    path = "/v1/models/pushed"
    refused = gateway.http.post(path, json=body, auth=root)
    assert refused.status_code == 422
    assert refused.json()["field"] == "parts"
    sent = gateway.http.put(f"{path}/{sha256}/parts/0", content=io.BytesIO(bytes(10)), auth=root)
    assert sent.status_code == 204
    assert gateway.http.get(f"{path}/{sha256}/parts", auth=root).json() == {"0": 10}
    assert gateway.http.post(path, json=body, auth=root).status_code == 201
    assert gateway.http.get(f"{path}/{sha256}/bytes", params={"start": 7}, auth=root).content == bytes(3)
    assert gateway.http.get(f"{path}/{sha256}/bytes", params={"start": 10}, auth=root).status_code == 404


def test_the_index_asks_the_store_only_when_it_must(farm_redis: FarmRedis, tmp_path: Path) -> None:
    asked: list[str] = []

    class Noted(ModelObjects):
        def all(self) -> Any:
            asked.append("all")
            return super().all()

    for _ in range(3):
        index = ModelIndex(farm_redis, Noted(Store(tmp_path / "store")))
        assert not index.all()
    assert asked == ["all"]
