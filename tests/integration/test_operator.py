"""What operators do with a farm, by its Redis and by its gateway: clean, storage, orphans, audit, orders."""

from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from img2img_gateway.key_roles import Role
from img2img_producer import Farm
from img2img_shared.errors import FarmError, NotFound, Refused
from img2img_shared.farm.store_janitor import Cleaned
from img2img_shared.ledger import FarmRedis
from img2img_shared.records import WorkerInfo, WorkerOrder
from img2img_shared.store import Store
from tests.eventually import eventually
from tests.integration.gateway import FakeWorker, Gateway, picture
from tests.integration.test_pushed_models import GATEWAY, SMALL, _keys, direct, farm, through_gateway

__all__ = ["GATEWAY", "direct", "farm", "through_gateway"]

OF_NOBODY = "20260101-000000-" + "0" * 8


def clean(farm: Farm, **kept: Any) -> Cleaned:
    """As `Farm.clean`, once the gateway's own janitor is through with what it does at its start."""
    found: list[Cleaned] = []

    def is_done() -> bool:
        with suppress(Refused):
            found.append(farm.clean(**kept))
        return bool(found)

    eventually("nobody else cleans", is_done)
    return found[0]


def test_storage_and_orphans_are_told_and_removed(farm: Farm, direct: Farm, store: Path) -> None:
    direct.submit([picture(1)], model="m", **SMALL)
    Store(store).put(f"jobs/{OF_NOBODY}/0.png", bytes(100))
    assert clean(farm).orphans == 0  # they are listed from now on
    (stored,) = [each for each in farm.storage() if each.tenant == "default"]
    assert stored.inputs > 0
    assert [(each.id, each.pictures, each.bytes) for each in farm.orphans()] == [(OF_NOBODY, 1, 100)]
    assert clean(farm, orphans="0s", dry_run=True).orphans == 1
    assert clean(farm, orphans="forever").orphans == 0
    assert clean(farm, orphans=0.0).orphans == 1
    assert list(farm.orphans()) == []
    with pytest.raises(Refused, match="uploads is 'soon'"):
        farm.clean(uploads="soon")


def test_who_asks_again_since_no_answer_came_is_told_what_the_first_call_did(
    direct: Farm, fake_worker: FakeWorker, gateway: Gateway
) -> None:
    auth, headers = ("root", "secret"), {"Idempotency-Key": "k"}
    fake_worker.ledger.beat(WorkerInfo(id="w", model="m", device="none", slots=1))
    body = {"order": "drain"}
    first = gateway.http.put("/v1/workers/w/order", json=body, auth=auth, headers=headers)
    fake_worker.ledger.leave("w")
    again = gateway.http.put("/v1/workers/w/order", json=body, auth=auth, headers=headers)
    assert first.json() == again.json() == {"workers": ["w"], "order": "drain"}
    assert gateway.http.put("/v1/workers/w/order", json=body, auth=auth).status_code == 404

    direct.submit([picture(1)], model="m", **SMALL)
    Store(direct.store_url).put(f"jobs/{OF_NOBODY}/0.png", bytes(100))
    clean(direct)

    def cleaned() -> Any:
        return gateway.http.post("/v1/clean", json={"orphans": 0}, auth=auth, headers=headers)

    told = eventually("nobody else cleans", lambda: (found := cleaned()).is_success and found.json())
    assert told["orphans"] == 1
    assert cleaned().json() == told


def test_workers_are_told_what_to_do_and_who_did_it_is_known(
    farm: Farm, direct: Farm, fake_worker: FakeWorker
) -> None:
    info = WorkerInfo(id="gpu 1", model="m", device="none", slots=1)
    fake_worker.ledger.beat(info)
    assert farm.order("gpu 1", WorkerOrder.DRAIN) == ["gpu 1"]
    assert fake_worker.ledger.beat(info).order is WorkerOrder.DRAIN
    assert farm.order("gpu 1", None) == ["gpu 1"]
    assert fake_worker.ledger.beat(info).order is None
    with pytest.raises(NotFound):
        farm.order("nobody", None)
    job = direct.submit([picture(1)], model="m", **SMALL)
    direct.cancel(job)
    assert [line.action for line in islice(farm.audit(), 3)] == ["cancel", "enable", "drain"]
    (line,) = farm.audit(job)
    assert (line.action, line.subject, line.tenant) == ("cancel", job, "default")


def test_whoever_submits_operates_nothing(gateway: Gateway, farm_redis: FarmRedis) -> None:
    _, secret = _keys(gateway, farm_redis).create("alice", "studio", role=Role.SUBMIT)
    with Farm(gateway.url, key=secret) as farm:
        calls: list[Any] = [farm.clean, lambda: list(farm.orphans()), lambda: farm.order("w", None)]
        for call in calls:
            with pytest.raises(FarmError, match="a key with the role operate"):
                call()
        assert [each.tenant for each in farm.storage()] == ["studio"]
        assert list(farm.audit()) == []
