"""Who may what: keys, their tenants and limits, the operator's password, and a gateway without any."""

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_module
from typer.testing import CliRunner, Result

from img2img_gateway.api_keys import ApiKeys
from img2img_gateway.app import create_app
from img2img_gateway.commands import app as cli
from img2img_gateway.gateway_settings import GatewaySettings
from img2img_gateway.key_roles import Role
from img2img_gateway.keys_mark import KEY
from img2img_gateway.sessions import Sessions, hashed
from img2img_shared.errors import Refused, Unavailable
from img2img_shared.ledger import FarmRedis
from img2img_shared.ledger.reservations import Reservations
from img2img_shared.store import Store
from tests.eventually import eventually
from tests.integration.gateway import PATIENCE, FakeWorker, Gateway, picture


@pytest.fixture
def ring(farm_redis: FarmRedis, store: Path) -> ApiKeys:
    return ApiKeys(farm_redis, Store(store))


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def submit(gateway: Gateway, secret: str, n: int = 1, **headers: str) -> httpx.Response:
    files = [("image", ("a.png", picture()))] * n
    data = {"model": "m", "width": "64", "height": "64"}
    return gateway.http.post("/v1/jobs/upload", data=data, files=files, headers={**bearer(secret), **headers})


def test_a_key_opens_by_bearer_header_or_password_and_nothing_else_does(
    gateway: Gateway, ring: ApiKeys
) -> None:
    _, secret = ring.create("bot", "default")
    get = gateway.http.get
    assert get("/v1/jobs", headers=bearer(secret)).status_code == 200
    assert get("/v1/jobs", headers={"X-API-Key": secret}).status_code == 200
    assert get("/sdapi/v1/options", auth=("anyone", secret)).status_code == 200
    for answer in (
        get("/v1/jobs"),
        get("/v1/jobs", headers=bearer(secret + "x")),
        get("/v1/jobs", headers={"Authorization": "Basic ???"}),
        get("/sdapi/v1/samplers"),
        get("/internal/ping"),
        gateway.http.post("/sdapi/v1/img2img", json={}),
    ):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")


def test_redis_holds_no_key_in_clear(ring: ApiKeys, redis: redis_module.Redis) -> None:
    key, secret = ring.create("bot", "default")
    everything = b"".join(redis.dump(key) or b"" for key in redis.scan_iter())
    assert secret.encode() not in everything
    assert secret.removeprefix(f"img2img_{key.id}_").encode() not in everything


def test_a_job_is_its_keys(gateway: Gateway, ring: ApiKeys) -> None:
    _, secret = ring.create("Alice's\nphone", "default")
    form = {"model": "m", "steps": "2", "width": "64", "height": "64"}
    files = {"image": ("a.png", picture(1))}
    job = gateway.http.post("/v1/jobs/upload", data=form, files=files, headers=bearer(secret)).json()
    assert job["owner"] == r"Alice's\nphone"


@pytest.mark.parametrize("damage", ["7", "[]", '{"nonesuch": 1}', "no JSON"])
def test_a_record_that_cannot_be_read_is_told_to_the_operator_and_may_be_mended(
    redis_url: str,
    store: Path,
    ring: ApiKeys,
    redis: redis_module.Redis,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    (_, secret), (_, other) = ring.create("bot", "default", role=Role.ADMIN), ring.create("other", "default")
    with Gateway(redis_url, store) as gateway:  # one that has told of nothing
        for table, name, path, used in (
            ("tasks:default", "begun", "/sdapi/v1/progress", secret),
            ("storage", "default", "/v1/storage", secret),
            ("keys", hashed(other), "/v1/jobs", other),
        ):
            key = f"{{img2img}}:gateway:{table}"
            redis.hset(key, name, damage)
            answer = gateway.http.get(path, headers=bearer(used))
            assert (answer.status_code, key in answer.text) == (503, False)
            told = f"GET {path} cannot be answered: Redis cannot serve the farm: its key {key} holds"
            assert caplog.text.count(told) == 1
            assert gateway.http.get(path, headers=bearer(used)).status_code == 503
            assert caplog.text.count(told) == 1, "once is enough"
            redis.hdel(key, name)
        assert gateway.http.get("/v1/jobs", headers=bearer(secret)).status_code == 200


def test_a_key_with_a_limit_that_only_a_newer_version_knows_opens_nothing_and_says_why(
    gateway: Gateway, ring: ApiKeys, redis: redis_module.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    key, secret = ring.create("bot", "default")
    table, name = "{img2img}:gateway:keys", hashed(secret)
    facts = json.loads(redis.hget(table, name) or "{}")
    redis.hset(table, name, json.dumps({**facts, "hours": "9-17"}))
    answer = gateway.http.get("/v1/jobs", headers=bearer(secret))
    assert (answer.status_code, answer.json()["detail"]) == (503, "this gateway is too old for the API key")
    assert f"the API key {key.id} was made by a newer version, with hours: update" in caplog.text


@pytest.mark.parametrize("damage", ["7", "[]", '{"nonesuch": 1}'])
def test_a_session_that_cannot_be_read_is_no_internal_error(
    farm_redis: FarmRedis, redis: redis_module.Redis, damage: str
) -> None:
    sessions = Sessions(farm_redis)
    token = sessions.begin(key="x")
    redis.hset(f"{{img2img}}:gateway:session:{hashed(token)}", "begun", damage)
    with pytest.raises(Unavailable, match=r"gateway:session:.* holds"):
        sessions.find(token)


def test_a_revoked_key_opens_no_more(gateway: Gateway, ring: ApiKeys) -> None:
    key, secret = ring.create("bot", "default")
    ring.create("other", "default")
    assert gateway.http.get("/v1/jobs", headers=bearer(secret)).status_code == 200
    ring.revoke(key.id)
    assert gateway.http.get("/v1/jobs", headers=bearer(secret)).status_code == 401


def test_tenants_do_not_see_each_other(gateway: Gateway, ring: ApiKeys, fake_worker: FakeWorker) -> None:
    _, ours = ring.create("ours", "one")
    _, theirs = ring.create("theirs", "two")
    job = submit(gateway, ours).json()["id"]
    fake_worker.work()
    assert len(gateway.http.get("/v1/jobs", headers=bearer(ours)).json()["jobs"]) == 1
    assert gateway.http.get("/v1/jobs", headers=bearer(theirs)).json()["jobs"] == []
    for path in ("", "/images", "/images/0/picture", "/events", "/results", "/results.zip", "/params"):
        answer = gateway.http.get(f"/v1/jobs/{job}{path}", headers=bearer(theirs))
        assert answer.status_code == 404, path
    for verb in ("cancel", "pause", "resume", "retry"):
        assert gateway.http.post(f"/v1/jobs/{job}/{verb}", headers=bearer(theirs)).status_code == 404
    gateway.http.post("/sdapi/v1/options", json={"samples_format": "webp"}, headers=bearer(ours))
    assert gateway.http.get("/sdapi/v1/options", headers=bearer(theirs)).json()["samples_format"] == "png"


def test_a_tenant_names_only_pictures_that_it_has_uploaded(
    gateway: Gateway, ring: ApiKeys, fake_worker: FakeWorker
) -> None:
    (_, ours), (_, theirs) = ring.create("ours", "default"), ring.create("theirs", "other")

    def upload(secret: str) -> str:
        answer = gateway.http.post("/v1/inputs", content=picture(3), headers=bearer(secret))
        return str(answer.json()["key"])

    def name(secret: str, key: str, path: str = "/v1/jobs") -> httpx.Response:
        pictures = {"init_images": [key]} if path.startswith("/sdapi") else {"inputs": [{"image": key}]}
        model = {} if path.startswith("/sdapi") else {"model": "m"}
        return gateway.http.post(path, json={**model, **pictures}, headers=bearer(secret))

    key = upload(ours)
    assert name(ours, key).status_code == 201
    for answer in (name(theirs, key), name(theirs, key, "/sdapi/v1/img2img")):
        assert answer.status_code == 422
        assert "upload the picture first" in answer.json()["allowed"]
    in_store = f"inputs/default/{key.removeprefix('inputs/')}"
    assert name(theirs, in_store).status_code == 422
    assert upload(theirs) == key  # the same picture, theirs now
    assert name(theirs, key).status_code == 201


def test_a_keys_requests_a_minute_are_counted(gateway: Gateway, ring: ApiKeys) -> None:
    _, slow = ring.create("slow", "default", rate=3)
    _, free = ring.create("free", "default")
    codes = [gateway.http.get("/v1/jobs", headers=bearer(slow)).status_code for _ in range(8)]
    # a minute may have turned once in between
    assert codes[:3] == [200] * 3
    assert codes.count(200) in (3, 6)
    if codes[-1] == 429:
        assert int(gateway.http.get("/v1/jobs", headers=bearer(slow)).headers["retry-after"]) <= 60
    assert gateway.http.get("/v1/jobs", headers=bearer(free)).status_code == 200


def test_a_keys_quota_counts_what_is_under_way(
    gateway: Gateway, ring: ApiKeys, fake_worker: FakeWorker
) -> None:
    _, secret = ring.create("small", "default", quota=3)
    assert submit(gateway, secret, 2).status_code == 201
    full = submit(gateway, secret, 2)
    assert (full.status_code, full.json()["field"]) == (429, "inputs")
    assert submit(gateway, secret, 1).status_code == 201
    assert submit(gateway, secret, 1).status_code == 429
    fake_worker.work(1)
    assert submit(gateway, secret, 1).status_code == 201
    fake_worker.work()
    assert submit(gateway, secret, 3).status_code == 201


def test_what_is_tried_again_counts_for_the_quota(
    gateway: Gateway, ring: ApiKeys, fake_worker: FakeWorker
) -> None:
    _, secret = ring.create("small", "default", quota=2)
    failed = submit(gateway, secret, 2).json()["id"]
    for _ in range(2):
        fake_worker.ledger.fail(fake_worker.await_claim(), "damaged")
    waiting = submit(gateway, secret, 1).json()["id"]

    def retry() -> httpx.Response:
        return gateway.http.post(f"/v1/jobs/{failed}/retry", headers=bearer(secret))

    full = retry()
    assert full.status_code == 429
    assert "1 are, and 2 more are too many" in full.json()["detail"]
    gateway.http.post(f"/v1/jobs/{waiting}/cancel", headers=bearer(secret)).raise_for_status()
    assert [retry().json()["changed"] for _ in range(2)] == [2, 0]
    assert submit(gateway, secret, 1).status_code == 429


def test_a_repeat_is_no_new_job_for_the_quota(gateway: Gateway, ring: ApiKeys) -> None:
    _, secret = ring.create("small", "default", quota=2)
    repeat = {"Idempotency-Key": "one"}
    first = submit(gateway, secret, 2, **repeat)
    again = submit(gateway, secret, 2, **repeat)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]


def test_who_asks_twice_at_once_counts_once_for_the_quota(farm_redis: FarmRedis) -> None:
    reservations = Reservations(farm_redis)
    assert reservations.make("studio", "one", 2, 3, "the same") is None
    assert reservations.make("studio", "two", 2, 3, "the same") is None
    assert reservations.make("studio", "three", 2, 3, "another") == 2
    assert reservations.make("studio", "four", 1, 3) is None
    assert reservations.make("studio", "five", 1, 3) == 3


def test_a_keys_largest_job_is_a_limit(gateway: Gateway, ring: ApiKeys) -> None:
    _, secret = ring.create("small", "default", largest=2)
    assert submit(gateway, secret, 2).status_code == 201
    refused = submit(gateway, secret, 3)
    assert (refused.status_code, refused.json()["field"]) == (422, "inputs")


def test_the_operators_password_opens_as_a1111s_api_auth(redis_url: str, store: Path) -> None:
    with Gateway(redis_url, store, api_auth="ann:one,bob:two:three") as gateway:
        get = gateway.http.get
        assert get("/sdapi/v1/options", auth=("ann", "one")).status_code == 200
        assert get("/sdapi/v1/options", auth=("bob", "two:three")).status_code == 200
        assert get("/sdapi/v1/options", auth=("ann", "two:three")).status_code == 401
        assert get("/sdapi/v1/options").status_code == 401


def test_without_keys_only_localhost_is_answered(redis_url: str, store: Path) -> None:
    with Gateway(redis_url, store) as gateway:
        assert gateway.http.get("/v1/jobs").status_code == 200
        answer = gateway.http.get("/v1/jobs", headers={"Host": "evil.example.org"})
        assert answer.status_code == 403


def test_a_gateway_that_had_keys_stays_closed_when_redis_forgets_them(
    redis_url: str, redis: redis_module.Redis, ring: ApiKeys, store: Path
) -> None:
    with Gateway(redis_url, store) as gateway:

        def is_open() -> bool:
            return gateway.http.get("/v1/jobs").status_code == 200

        assert is_open()
        _, secret = ring.create("only", "default")
        eventually("it is closed", lambda: not is_open())
        redis.flushall()
        redis.config_resetstat()

        def looked_again() -> bool:
            assert not is_open()
            stats: Any = redis.info("commandstats")
            return bool(stats.get("cmdstat_hlen", {"calls": 0})["calls"] >= 2)

        eventually("it looks for keys again", looked_again)
        assert not is_open()
        assert gateway.http.get("/v1/jobs", headers=bearer(secret)).status_code == 401

        last, _ = ring.create("new", "default")
        ring.revoke(last.id)
        eventually("it is open: the last key was revoked", is_open)


def test_a_gateway_that_starts_after_redis_forgot_the_keys_is_closed(
    redis_url: str, redis: redis_module.Redis, ring: ApiKeys, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ring.create("only", "default")
    redis.flushall()
    with Gateway(redis_url, store) as gateway:
        assert gateway.http.get("/v1/jobs").status_code == 401
        assert "API keys were lost" in caplog.text
        key, secret = ring.create("new", "default")
        assert gateway.http.get("/v1/jobs", headers=bearer(secret)).status_code == 200
    ring.revoke(key.id)
    redis.flushall()
    with Gateway(redis_url, store) as gateway:
        assert gateway.http.get("/v1/jobs").status_code == 200


def test_the_store_is_told_of_keys_that_an_older_version_made(
    redis_url: str, redis: redis_module.Redis, ring: ApiKeys, store: Path
) -> None:
    ring.create("older", "default")
    (store / KEY).unlink()
    with Gateway(redis_url, store):
        redis.flushall()
    with Gateway(redis_url, store) as gateway:
        assert gateway.http.get("/v1/jobs").status_code == 401


def test_no_key_is_made_that_the_store_would_not_remember(ring: ApiKeys, store: Path) -> None:
    (store / "gateway").write_text("no folder")
    with pytest.raises(Unavailable, match="cannot note in the store"):
        ring.create("only", "default")
    assert not ring.all()
    (store / "gateway").unlink()


def test_a_key_may_have_a_highest_priority(gateway: Gateway, ring: ApiKeys) -> None:
    _, low = ring.create("low", "default", priority=-5)
    _, high = ring.create("high", "default", priority=5)

    def priority_of(secret: str, *asked: int) -> int | str:
        body: dict[str, Any] = {"inputs": [{"image": base64.b64encode(picture()).decode()}], "model": "m"}
        if asked:
            body["priority"] = asked[0]
        answer = gateway.http.post("/v1/jobs", json=body, headers=bearer(secret))
        return int(answer.json()["priority"]) if answer.is_success else str(answer.json()["detail"])

    assert (priority_of(low), priority_of(high)) == (-5, 0)
    assert (priority_of(low, -7), priority_of(high, 5)) == (-7, 5)
    assert "this key allows at most -5" in str(priority_of(low, 0))
    assert "this key allows at most 5" in str(priority_of(high, 6))

    job = gateway.http.get("/v1/jobs", headers=bearer(low)).json()["jobs"][0]["id"]
    for secret, code in ((low, 422), (high, 200)):
        changed = gateway.http.put(f"/v1/jobs/{job}/priority", json={"priority": 3}, headers=bearer(secret))
        assert changed.status_code == code


def test_a_gateway_that_others_can_reach_does_not_start_without_keys(redis_url: str, tmp_path: Path) -> None:
    app = create_app(GatewaySettings(redis_url=redis_url, store_url=str(tmp_path), host="0.0.0.0"))  # noqa: S104

    async def start() -> None:
        async with app.router.lifespan_context(app):
            pass

    with pytest.raises(Refused, match="host"):
        asyncio.run(start())


def test_pages_of_allowed_origins_may_call(redis_url: str, store: Path) -> None:
    asked = {"Origin": "https://paint.example", "Access-Control-Request-Method": "POST"}
    with Gateway(redis_url, store, cors_origins=("https://paint.example",)) as gateway:
        preflight = gateway.http.options("/sdapi/v1/img2img", headers=asked)
        other = gateway.http.options(
            "/sdapi/v1/img2img", headers={**asked, "Origin": "https://other.example"}
        )
    assert preflight.headers["access-control-allow-origin"] == "https://paint.example"
    assert "access-control-allow-origin" not in other.headers


def test_without_the_setting_no_page_may_call(gateway: Gateway) -> None:
    answer = gateway.http.get("/v1/jobs", headers={"Origin": "https://paint.example"})
    assert "access-control-allow-origin" not in answer.headers


def run_key(redis_url: str, folder: Path, *words: str) -> Result:
    """``img2img key WORDS``."""
    farm = ["--redis-url", redis_url, "--store-url", str(folder), "--tenant", "lab"]
    done = CliRunner().invoke(cli, [*farm, "key", *words])
    assert done.exit_code == 0, done.output
    return done


def test_keys_are_made_listed_and_revoked_on_the_command_line(redis_url: str, tmp_path: Path) -> None:
    def run(*words: str) -> Any:
        return run_key(redis_url, tmp_path, *words).stdout

    made = json.loads(run("create", "bot", "--rate", "60", "--quota", "500", "--largest", "100", "--json"))
    assert (made["tenant"], made["rate"], made["quota"], made["largest"]) == ("lab", 60, 500, 100)
    assert made["key"].startswith("img2img_")
    assert run("create", "second").strip().startswith("img2img_")
    assert "bot (tenant lab, 60 a minute, 500 under way, 100 a job)" in run("list")
    assert made["key"] not in run("list", "--json")
    assert "bot" in run("revoke", made["id"])
    assert "bot" not in run("list")


def test_the_first_key_says_what_it_changes(redis_url: str, tmp_path: Path) -> None:
    assert "refuse whoever shows none" in run_key(redis_url, tmp_path, "create", "one").stderr
    assert "refuse whoever shows none" not in run_key(redis_url, tmp_path, "create", "two").stderr


def test_a_key_is_listed_with_its_last_use(
    gateway: Gateway, ring: ApiKeys, redis_url: str, store: Path
) -> None:
    key, secret = ring.create("bot", "default")
    today = datetime.fromtimestamp(key.created).strftime("%Y-%m-%d")
    assert f", made {today} " in run_key(redis_url, store, "list").stdout
    assert run_key(redis_url, store, "list").stdout.endswith(", never used\n")
    before = int(time.time())
    assert gateway.http.get("/v1/jobs", headers=bearer(secret)).status_code == 200
    (listed,) = json.loads(run_key(redis_url, store, "list", "--json").stdout)
    assert before <= listed["last_used"] <= time.time()
    assert f"last used {today[:7]}" in run_key(redis_url, store, "list").stdout


@contextmanager
def page_of(gateway: Gateway, secret: str) -> Iterator[httpx.Client]:
    """A browser's page that has signed in: its cookie, and what it sends with changes."""
    headers = {"Sec-Fetch-Site": "same-origin", "X-Page": "1"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=PATIENCE) as page:
        answer = page.post("/v1/session", headers=bearer(secret)).raise_for_status()
        page.headers["X-CSRF-Token"] = answer.json()["csrf"]
        yield page


def test_a_session_opens_what_its_key_opens(gateway: Gateway, ring: ApiKeys) -> None:
    _, ours = ring.create("laptop", "one", priority=5)
    _, theirs = ring.create("theirs", "two")
    job = submit(gateway, ours).json()["id"]
    with page_of(gateway, ours) as page, page_of(gateway, theirs) as other:
        who = page.get("/v1/session").json()
        assert who.pop("csrf") == page.headers["X-CSRF-Token"]
        assert who == {"tenant": "one", "owner": "laptop", "operates": False, "priority": 5}
        assert [each["id"] for each in page.get("/v1/jobs").json()["jobs"]] == [job]
        assert page.post(f"/v1/jobs/{job}/pause").json() == {"changed": 1}
        assert other.get("/v1/jobs").json()["jobs"] == []
        assert other.get(f"/v1/jobs/{job}").status_code == 404
        assert other.post(f"/v1/jobs/{job}/cancel").status_code == 404


def test_the_cookie_of_a_session_is_out_of_reach(gateway: Gateway, ring: ApiKeys) -> None:
    _, secret = ring.create("laptop", "one")
    answer = gateway.http.post("/v1/session", headers=bearer(secret))
    gateway.http.cookies.clear()
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie
    behind = gateway.http.post("/v1/session", headers={**bearer(secret), "X-Forwarded-Proto": "https"})
    gateway.http.cookies.clear()
    assert "secure" in behind.headers["set-cookie"].lower()


def test_a_session_changes_nothing_without_its_token(gateway: Gateway, ring: ApiKeys) -> None:
    _, secret = ring.create("laptop", "one")
    job = submit(gateway, secret).json()["id"]
    with page_of(gateway, secret) as page, page_of(gateway, secret) as other:
        for csrf in ("", "0" * 64, other.headers["X-CSRF-Token"], "é"):
            page.headers = httpx.Headers({**page.headers, "x-csrf-token": csrf}, encoding="utf-8")
            for answer in (page.post(f"/v1/jobs/{job}/pause"), page.delete("/v1/session")):
                assert answer.status_code == 403
            assert page.get(f"/v1/jobs/{job}").status_code == 200
        site = {"Sec-Fetch-Site": "cross-site", "X-CSRF-Token": other.headers["X-CSRF-Token"]}
        assert other.post(f"/v1/jobs/{job}/pause", headers=site).status_code == 403
        assert other.get(f"/v1/jobs/{job}", headers=site).status_code == 403


def test_a_session_ends_with_signing_out_and_with_its_key(
    gateway: Gateway, ring: ApiKeys, redis: redis_module.Redis
) -> None:
    key, secret = ring.create("laptop", "one")
    ring.create("other", "one")
    with page_of(gateway, secret) as page, page_of(gateway, secret) as other:
        held = dict(page.cookies)
        everything = b"".join(redis.dump(key) or b"" for key in redis.scan_iter())
        assert not any(value.encode() in everything for value in held.values())
        gone = page.delete("/v1/session")
        assert gone.json() == {"ended": True}
        assert gone.headers["clear-site-data"] == '"cache"'
        assert not page.cookies
        page.cookies.update(held)
        answer = page.get("/v1/jobs")
        assert answer.status_code == 401
        assert "www-authenticate" not in answer.headers  # or the browser would ask by itself
        assert other.get("/v1/jobs").status_code == 200
        ring.revoke(key.id)
        assert other.get("/v1/jobs").status_code == 401


def test_looking_at_things_does_not_use_up_a_keys_requests(gateway: Gateway, ring: ApiKeys) -> None:
    _, secret = ring.create("laptop", "one", rate=3)
    with page_of(gateway, secret) as page:
        assert all(page.get("/v1/jobs").status_code == 200 for _ in range(20))
        answers = [page.post("/v1/jobs/0123456789abcdef/pause").status_code for _ in range(4)]
        assert answers[0] == 404
        assert 429 in answers


def test_the_operator_signs_in_with_the_password(redis_url: str, store: Path) -> None:
    with Gateway(redis_url, store, api_auth="ann:secret,bob:other") as gateway:
        auth = httpx.BasicAuth("ann", "secret")
        headers = {"Sec-Fetch-Site": "same-origin"}
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=PATIENCE) as page:
            assert page.post("/v1/session", auth=httpx.BasicAuth("ann", "other")).status_code == 401
            who = page.post("/v1/session", auth=auth).raise_for_status().json()
            assert (who["owner"], who["operates"]) == ("ann", True)
            assert page.get("/v1/jobs").status_code == 200
            held = dict(page.cookies)
    with (
        Gateway(redis_url, store, api_auth="ann:changed") as gateway,
        httpx.Client(base_url=gateway.url, cookies=held, timeout=PATIENCE) as page,
    ):
        assert page.get("/v1/jobs").status_code == 401


def test_on_this_machine_nobody_signs_in(redis_url: str, store: Path) -> None:
    nobody = {"tenant": "default", "owner": "me", "csrf": None, "operates": True, "priority": 100}
    with Gateway(redis_url, store, owner="me") as gateway:
        for answer in (gateway.http.get("/v1/session"), gateway.http.post("/v1/session")):
            assert answer.json() == nobody
            assert "set-cookie" not in answer.headers
