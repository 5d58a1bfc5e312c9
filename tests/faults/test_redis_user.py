"""A Redis user who may no more than a farm needs, with sentinels that want a password of their own."""

import re
from pathlib import Path

import pytest

from img2img_gateway.api_keys import ApiKeys
from img2img_shared.ledger import connect
from img2img_shared.store import Store
from tests.checkpoints import cached, sd1
from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm, ForkServer
from tests.integration.gateway import Gateway, picture
from tests.servers import RedisServer, Sentinel, raw_client

GUIDE = Path(__file__).parents[2] / "docs" / "redis.md"


def rules() -> list[str]:
    """What the guide says that a farm needs, for the prefix "img2img"."""
    (line,) = re.findall(r"^ACL SETUSER farm on >PASSWORD (.*)$", GUIDE.read_text(), re.MULTILINE)
    return str(line).split()


def test_a_farm_needs_no_more_than_the_guide_says(
    tmp_path: Path, fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory, account: Account
) -> None:
    server = RedisServer(has_port=True)
    sentinel = Sentinel(server.port, quorum=1, lines=["requirepass watch/man"])
    try:
        with raw_client(server.url) as admin:
            admin.execute_command("ACL", "SETUSER", "farm", "reset", "on", ">p/w", *rules())
            admin.execute_command("ACL", "SETUSER", "sentinels", "on", ">s", "+@all", "~*", "&*")
        place = f"127.0.0.1:{sentinel.port}/farm"
        url = f"sentinel://farm:p%2Fw@{place}?sentinel_password=watch%2Fman"
        with FaultyFarm(tmp_path, fork_server, cached(tmp_path_factory, sd1), redis_url=url) as farm:
            farm.worker()
            job = farm.submit(3)
            use_gateway(farm, url)
            account.settle(farm, "a Redis user with the rules of the guide", job)
        with raw_client(server.url) as admin:
            assert admin.execute_command("ACL", "LOG") == []
    finally:
        sentinel.remove()
        server.remove()


def use_gateway(farm: FaultyFarm, url: str) -> None:
    """Everything of it that is kept in Redis."""
    with connect(url) as redis:
        _, secret = ApiKeys(redis, Store(farm.store_url)).create("all", "default", rate=1_000_000, quota=1000)
    key = {"Authorization": f"Bearer {secret}"}
    with Gateway(url, Path(farm.store_url)) as gateway:
        http = gateway.http
        form = {"model": farm.model, "steps": "2", "width": "64", "height": "64"}
        files = {"image": ("a.png", picture())}
        answer = http.post("/v1/jobs/upload", data=form, files=files, headers=key)
        job = answer.raise_for_status().json()["id"]
        eventually("it is done", lambda: http.get(f"/v1/jobs/{job}", headers=key).json()["finished"])
        for path in ("/v1/jobs", "/v1/workers", "/v1/models", "/sdapi/v1/options", "/sdapi/v1/progress"):
            http.get(path, headers=key).raise_for_status()
        http.get(f"/v1/jobs/{job}/events", headers=key).raise_for_status()
        http.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 2}, headers=key).raise_for_status()
        for verb in ("pause", "resume", "retry", "cancel"):
            http.post(f"/v1/jobs/{job}/{verb}", headers=key)
