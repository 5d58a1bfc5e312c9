"""What ``img2img doctor`` finds, on real servers with one thing wrong with each."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from img2img_shared.farm import doctor
from img2img_shared.farm.doctor import Finding, Verdict, examine, examine_farm
from img2img_shared.farm.marker import StoreMarker
from img2img_shared.ledger import FarmRedis, Ledger, connect
from img2img_shared.ledger.server_facts import ServerFacts, server_facts
from img2img_shared.pushed_models.model_index import ModelIndex
from img2img_shared.pushed_models.model_objects import ModelObjects
from img2img_shared.pushed_models.pushed_model import PushedModel
from img2img_shared.records import WorkerInfo, WorkerReport
from img2img_shared.settings import Settings
from img2img_shared.store import Store
from tests.integration.gateway import FakeWorker, Gateway, picture
from tests.servers import RedisServer, raw_client


@pytest.fixture(scope="module")
def kept() -> Iterator[RedisServer]:
    """A Redis as a farm wants it."""
    server = RedisServer("--maxmemory-policy", "noeviction", append_only=True)
    yield server
    server.remove()


@pytest.fixture
def own_redis(kept: RedisServer) -> str:
    with raw_client(kept.url) as client:
        client.flushall()
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 0)
    return kept.url


def found(redis_url: str, store_url: str | Path, **settings: object) -> list[Finding]:
    chosen = Settings(**settings)  # type: ignore[arg-type]
    return list(examine_farm(chosen, redis_url, str(store_url)))


def wrong(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(each.part, each.text) for each in findings if each.verdict is Verdict.WRONG]


def advice(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(each.part, each.text) for each in findings if each.verdict is Verdict.ADVICE]


def test_pushed_checkpoints_are_told(own_redis: str, tmp_path: Path) -> None:
    facts: dict[str, Any] = {"kind": "checkpoint", "name": "anime", "ending": ".safetensors", "size": 1}
    index = ModelIndex(connect(own_redis, "img2img"), ModelObjects(Store(tmp_path)))
    index.put(PushedModel(**facts, sha256="a" * 64, part=1, pushed=0.0, model="anime"))
    told = [each.text for each in found(own_redis, tmp_path) if each.part == "models"]
    assert told[1] == "the store has anime, which workers without --model fetch"


def test_a_sound_farm(own_redis: str, tmp_path: Path) -> None:
    findings = found(own_redis, tmp_path)
    assert wrong(findings) == []
    assert {each.part for each in findings} == {"redis", "store", "models", "workers"}
    ((part, text),) = advice(findings)  # nobody works there yet
    assert part == "workers"
    assert "img2img worker --model" in text
    assert not list(tmp_path.glob("doctor/*")), "it leaves nothing behind"


def test_a_redis_that_is_too_old(own_redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def facts(redis: FarmRedis) -> ServerFacts:
        return replace(server_facts(redis), version="6.2.14")

    monkeypatch.setattr(doctor, "server_facts", facts)
    assert wrong(found(own_redis, tmp_path)) == [
        ("redis", "version 6.2.14 is too old: install Redis 7 or newer, or Valkey")
    ]


def test_a_redis_that_would_forget(own_redis: str, tmp_path: Path) -> None:
    forgetful = RedisServer("--maxmemory-policy", "allkeys-lru")
    texts = [text for part, text in wrong(found(forgetful.url, tmp_path)) if part == "redis"]
    forgetful.remove()
    assert len(texts) == 2
    assert "appendonly yes" in texts[0]
    assert "allkeys-lru" in texts[1]


def test_a_redis_that_is_nearly_full(own_redis: str, tmp_path: Path) -> None:
    with raw_client(own_redis) as client:
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", int(used * 1.1))
    assert any(
        "IMG2IMG_KEEP_JOBS" in text for part, text in advice(found(own_redis, tmp_path)) if part == "redis"
    )


def test_a_redis_that_takes_no_writes(tmp_path: Path) -> None:
    full = RedisServer(append_only=True)
    with raw_client(full.url) as client:
        client.config_set("maxmemory", 1)
    findings = wrong(found(full.url, tmp_path))
    full.remove()
    assert ("redis", "Redis takes no writes: command not allowed when used memory > 'maxmemory'.") in findings


def test_a_user_that_may_not_ask(own_redis: str, tmp_path: Path) -> None:
    with raw_client(own_redis) as client:
        # as docs/redis.md has it
        keys, may = "~{img2img}* ~img2img:celery:*", "+@read +@write +@connection +@scripting +@transaction"
        rules = f"{keys} -@all {may} +time -@dangerous"
        client.execute_command("ACL", "SETUSER", "few", "on", ">secret", *rules.split())
    socket = own_redis.removeprefix("unix://")
    findings = found(f"unix://few:secret@{socket}", tmp_path)
    assert wrong(findings) == []
    assert any("may not run INFO" in text for _, text in advice(findings))
    assert not any("secret" in each.text for each in findings)


def test_nothing_that_answers(tmp_path: Path) -> None:
    findings = found("redis://:secret@127.0.0.1:1/0", "/proc/none")
    assert [part for part, _ in wrong(findings)] == ["redis", "store"]
    assert not any("secret" in each.text for each in findings)


def test_another_farms_store(own_redis: str, tmp_path: Path) -> None:
    with connect(own_redis) as redis:
        StoreMarker(Store(tmp_path / "ours"), Ledger(redis)).establish()
    assert wrong(found(own_redis, tmp_path / "ours")) == []
    ((part, text),) = wrong(found(own_redis, tmp_path / "unmounted"))
    assert part == "store"
    assert "farm-id" in text


def test_models_that_are_not_there(own_redis: str, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    empty = found(own_redis, tmp_path, models_dir=tmp_path / "models")
    assert any(part == "models" for part, _ in advice(empty))
    missing = found(own_redis, tmp_path, models_dir=tmp_path / "nowhere")
    assert [part for part, _ in wrong(missing)] == ["models"]
    (tmp_path / "models" / "fine.safetensors").write_bytes(b"")
    filled = found(own_redis, tmp_path, models_dir=tmp_path / "models")
    assert any(each.part == "models" and "fine" in each.text for each in filled)


def test_work_that_nobody_does(own_redis: str, tmp_path: Path) -> None:
    worker = FakeWorker(own_redis, tmp_path, "m")
    with Gateway(own_redis, tmp_path) as gateway:
        files = [("image", ("a.png", picture()))]
        gateway.http.post("/v1/jobs/upload", data={"model": "m"}, files=files).raise_for_status()
    assert wrong(found(own_redis, tmp_path)) == []
    worker.ledger.leave(worker.worker)
    ((part, text),) = wrong(found(own_redis, tmp_path))
    assert part == "workers"
    assert "images wait for m, and no worker has it" in text
    worker.client.close()


def test_workers_of_another_version_and_out_of_service(own_redis: str, tmp_path: Path) -> None:
    with connect(own_redis) as redis:
        info = WorkerInfo(id="host-1-abc", model="m", device="cpu", slots=1, version="0.0.9")
        Ledger(redis).beat(info, WorkerReport(trouble="the store does not answer"))
        texts = [text for part, text in advice(found(own_redis, tmp_path)) if part == "workers"]
    assert any("host-1-abc" in text and "the store does not answer" in text for text in texts)
    assert any("0.0.9" in text for text in texts)


def test_a_gpu_that_is_not_there(own_redis: str, tmp_path: Path) -> None:
    import torch

    settings = Settings(device="cuda:0")
    last = list(examine(settings, own_redis, str(tmp_path)))[-1]
    assert last.part == "device"
    assert (last.verdict is Verdict.WRONG) == (not torch.cuda.is_available())
