"""What keys of each role may, who did what, and what tenants store."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from img2img_gateway.api_keys import ApiKeys
from img2img_gateway.key_roles import Role
from img2img_shared.farm.store_janitor import StoreJanitor
from img2img_shared.farm.submission import UPLOADS
from img2img_shared.ledger import FarmRedis, Ledger
from img2img_shared.records import WorkerInfo
from img2img_shared.settings import Settings
from img2img_shared.store import Store
from tests.integration.gateway import FakeWorker, Gateway, picture

#: who runs the farm knows a password
GATEWAY = {"api_auth": "root:secret"}
ROOT = ("root", "secret")

Call = Callable[..., httpx.Response]


@pytest.fixture
def ring(farm_redis: FarmRedis, gateway: Gateway) -> ApiKeys:
    return ApiKeys(farm_redis, Store(str(gateway.settings.store_url)))


def caller(gateway: Gateway, secret: str) -> Call:
    def call(method: str, path: str, **more: Any) -> httpx.Response:
        return gateway.http.request(method, path, headers={"X-API-Key": secret}, **more)

    return call


def submitted(call: Call, number: int = 0) -> str:
    form = {"model": "m", "steps": "2", "width": "64", "height": "64"}
    answer = call("POST", "/v1/jobs/upload", data=form, files={"image": ("a.png", picture(number))})
    return str(answer.raise_for_status().json()["id"])


def test_each_role_may_what_those_before_it_may(
    gateway: Gateway, ring: ApiKeys, fake_worker: FakeWorker
) -> None:
    fake_worker.ledger.beat(WorkerInfo(id="gpu-1-abc", model="m", device="none", slots=1))
    submit, operate, admin = (
        caller(gateway, ring.create(role, "studio", role=role)[1])
        for role in (Role.SUBMIT, Role.OPERATE, Role.ADMIN)
    )
    order = ("PUT", "/v1/workers/gpu-1-abc/order")
    for call in (submit, operate, admin):
        assert call("POST", f"/v1/jobs/{submitted(call)}/cancel").json() == {"changed": 1}
    refused = submit(*order, json={"order": "disable"})
    assert refused.status_code == 403
    assert "a key with the role operate" in refused.json()["detail"]
    for call in (operate, admin):
        assert call(*order, json={"order": "disable"}).status_code == 200
    for call in (submit, operate):
        assert call("GET", "/v1/keys").status_code == 403
        assert call("POST", "/v1/keys", json={"name": "x", "role": "admin"}).status_code == 403
        assert call("DELETE", f"/v1/keys/{ring.all()[0].id}").status_code == 403
    assert {key["role"] for key in admin("GET", "/v1/keys").json()} == {"submit", "operate", "admin"}


def test_keys_are_made_and_revoked_over_http(gateway: Gateway, ring: ApiKeys) -> None:
    wanted = {"name": "bob", "tenant": "studio", "quota": 5, "keep": "30d", "storage": 1000}
    made = gateway.http.post("/v1/keys", json=wanted, auth=ROOT)
    assert made.status_code == 201
    assert ring.admit(made.json()["key"]) is not None
    listed = gateway.http.get("/v1/keys", auth=ROOT).json()
    assert [{name: key[name] for name in wanted} for key in listed] == [wanted]
    assert "key" not in listed[0]
    assert gateway.http.delete(f"/v1/keys/{made.json()['id']}", auth=ROOT).status_code == 200
    assert ring.admit(made.json()["key"]) is None
    assert gateway.http.post("/v1/keys", json={"name": "x", "keep": "soon"}, auth=ROOT).status_code == 422


def test_it_is_told_who_did_what(gateway: Gateway, ring: ApiKeys, fake_worker: FakeWorker) -> None:
    fake_worker.ledger.beat(WorkerInfo(id="gpu-1-abc", model="m", device="none", slots=1))
    alice = caller(gateway, ring.create("alice", "studio")[1])
    bob = caller(gateway, ring.create("bob", "other")[1])
    job, other = submitted(alice), submitted(bob)
    alice("POST", f"/v1/jobs/{job}/pause")
    alice("POST", f"/v1/jobs/{job}/pause")  # which changes nothing
    alice("PUT", f"/v1/jobs/{job}/priority", json={"priority": 7})
    alice("PUT", f"/v1/jobs/{job}/keep", json={"keep": "10s"})
    alice("POST", f"/v1/jobs/{job}/cancel")
    alice("DELETE", f"/v1/jobs/{job}")
    assert bob("POST", f"/v1/jobs/{job}/cancel").status_code == 404
    bob("POST", f"/v1/jobs/{other}/cancel")
    gateway.http.put("/v1/workers/gpu-1-abc/order", json={"order": "drain"}, auth=ROOT)
    key = gateway.http.post("/v1/keys", json={"name": "carol", "tenant": "studio"}, auth=ROOT).json()["id"]

    def told(call: Call, **query: Any) -> list[str]:
        lines = call("GET", "/v1/audit", params=query).json()
        facts = [[line[name] for name in ("by", "action", "subject", "detail")] for line in lines]
        return [" ".join(each).strip() for each in facts]

    hers = [f"alice {what}" for what in (f"remove {job}", f"cancel {job}", f"keep {job} 10000")]
    hers += [f"alice priority {job} 7", f"alice pause {job}"]
    assert told(alice) == [f"root create-key {key} submit", *hers]
    assert told(bob) == [f"bob cancel {other}"]
    everything = told(lambda *words, **more: gateway.http.request(*words, auth=ROOT, **more))
    assert everything[:3] == [
        f"root create-key {key} submit",
        "root drain gpu-1-abc",
        f"bob cancel {other}",
    ]
    assert told(alice, subject=job, limit=2) == hers[:2]


def test_a_key_says_how_long_its_jobs_are_kept_at_most(gateway: Gateway, ring: ApiKeys) -> None:
    call = caller(gateway, ring.create("alice", "studio", keep="7d")[1])
    job = submitted(call)
    assert call("GET", f"/v1/jobs/{job}").json()["keep"] == 7 * 86_400
    for longer in ("8d", "forever"):
        refused = call("PUT", f"/v1/jobs/{job}/keep", json={"keep": longer})
        assert (refused.status_code, refused.json()["field"]) == (422, "keep")
    assert call("PUT", f"/v1/jobs/{job}/keep", json={"keep": "1d"}).json()["keep"] == 86_400


def test_a_tenant_that_has_used_up_its_room_stores_no_more(
    gateway: Gateway, ring: ApiKeys, fake_worker: FakeWorker, farm_redis: FarmRedis
) -> None:
    Ledger(farm_redis).begin_generations()  # the store, which was emptied, is as old as the ledger
    call = caller(gateway, ring.create("alice", "studio", storage=3 * len(picture()))[1])
    job = submitted(call)
    FakeWorker(str(gateway.settings.redis_url), str(gateway.settings.store_url), tenant="studio").work()
    uploaded = call("POST", "/v1/inputs", content=picture(1))
    assert uploaded.status_code == 201
    (stored,) = call("GET", "/v1/storage").json()
    assert (stored["tenant"], stored["since"]) == ("studio", len(picture()) + len(picture(1)))
    settings = Settings(redis_url=gateway.settings.redis_url, store_url=gateway.settings.store_url)
    janitor = StoreJanitor(farm_redis, Store(str(gateway.settings.store_url)), settings)
    janitor.clean(uploads=None)
    for refused in (
        call("POST", "/v1/inputs", content=picture(2)),
        call("POST", "/v1/jobs/upload", data={"model": "m"}, files={"image": ("a.png", picture(2))}),
    ):
        assert refused.status_code == 413, refused.text
        assert "remove jobs that are done" in refused.json()["detail"]
    assert call("DELETE", f"/v1/jobs/{job}").status_code == 200
    janitor.clean(uploads=0)
    assert call("GET", "/v1/storage").json()[0]["bytes"] == 0
    assert call("POST", "/v1/inputs", content=picture(2)).status_code == 201
    everybody = gateway.http.get("/v1/storage", auth=ROOT).json()
    assert [each["tenant"] for each in everybody] == ["studio"]


def test_a_large_job_stores_no_more_than_its_tenant_may(gateway: Gateway, ring: ApiKeys) -> None:
    call = caller(gateway, ring.create("alice", "studio", storage=3 * len(picture()))[1])
    files = [("image", ("a.png", picture(number))) for number in range(5 * UPLOADS)]
    refused = call("POST", "/v1/jobs/upload", data={"model": "m"}, files=files)
    assert refused.status_code == 413, refused.text
    (stored,) = call("GET", "/v1/storage").json()
    assert stored["since"] <= (UPLOADS + 3) * max(len(each[1][1]) for each in files)
    assert call("GET", "/v1/jobs").json()["jobs"] == []
