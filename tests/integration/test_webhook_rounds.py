"""What one gateway does for webhooks in each of its rounds, which these tests make by hand."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from img2img_gateway import webhook_deliveries, webhook_dispatcher
from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.gateway_settings import GatewaySettings
from img2img_gateway.webhook_dispatcher import WebhookDispatcher
from img2img_gateway.webhook_store import Hook, WebhookStore
from img2img_shared.ledger import FarmRedis, Ledger
from tests.integration.ledger_helpers import Take, a_job, taken
from tests.servers import raw_client


class Rounds:
    """A gateway's webhooks, and what would be delivered: nothing is until it is `taken`."""

    def __init__(self, farm: AsyncFarm) -> None:
        self._farm = farm
        self._hooks = WebhookStore(farm)
        self._dispatcher = WebhookDispatcher(farm, self._hooks)

    def submit(self, name: str, n: int, tenant: str = "default", *events: str) -> None:
        """A job of `n` images, of which `events` are wanted."""
        job = a_job(name, n, tenant=tenant)
        hook = Hook(tenant="", url="http://here/", events=events, ended=0, created=time.time())
        self._hooks.add(job, hook)
        self._farm.ledger.submit(job)

    def look(self) -> set[str]:
        """Look at the jobs as a round does; the deliveries that wait after it."""
        self._dispatcher._election.is_won()
        self._dispatcher._look()
        return self.waiting()

    def waiting(self) -> set[str]:
        """The deliveries that were made and not delivered."""
        with raw_client(self._farm.redis_url) as client:
            return {str(name, "utf-8") for name in client.hkeys("{img2img}:gateway:deliveries")}

    def deliver_all(self) -> None:
        """As if each of them had been taken."""
        for name in self.waiting():
            for lane in ("default here", "studio here"):
                self._hooks.deliveries._due.remove(lane, name)

    def hooks(self) -> set[str]:
        """The jobs that have one."""
        return set(self._hooks.all())


@pytest.fixture
def rounds(redis_url: str, tmp_path: Path) -> Iterator[Rounds]:
    farm = AsyncFarm(GatewaySettings(redis_url=redis_url, store_url=str(tmp_path)))
    yield Rounds(farm)
    farm.close()


def forget_events(farm_redis: FarmRedis, job: str) -> None:
    """All but the last, as a thousand later ones would."""
    farm_redis.call("XTRIM", f"{{img2img}}:job:{job}:events", "MAXLEN", 1)


def finish(ledger: Ledger, take: Take, n: int) -> None:
    for _ in range(n):
        assert ledger.finish(taken(take))


def test_many_images_whose_events_are_gone_hold_up_no_other_job(
    rounds: Rounds, ledger: Ledger, take: Take, farm_redis: FarmRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_dispatcher, "EVENTS", 4)
    monkeypatch.setattr(webhook_deliveries, "BEHIND", 4)
    rounds.submit("job-large", 10, "default", "image", "done")
    finish(ledger, take, 10)
    forget_events(farm_redis, "job-large")
    rounds.submit("job-same-tenant", 1, "default", "done")
    finish(ledger, take, 1)
    made = rounds.look()
    assert made == {*(f"job-large-{index}-1" for index in range(4)), "job-same-tenant-end"}
    rounds.submit("job-studio", 1, "studio", "image", "done")
    finish(ledger, take, 1)
    assert rounds.look() - made == {"job-studio-0-1", "job-studio-end"}  # the tenant's wait to be delivered
    rounds.deliver_all()
    told = set(made)
    while rounds.hooks():
        made = rounds.look()
        assert len(made) <= 5  # images, and the job's end
        assert "job-large-end" not in made or not rounds.hooks()
        told |= made
        rounds.deliver_all()
    assert told >= {f"job-large-{index}-1" for index in range(10)} | {"job-large-end"}


def test_images_that_end_while_others_are_caught_up_with_are_told_too(
    rounds: Rounds, ledger: Ledger, take: Take, farm_redis: FarmRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_dispatcher, "EVENTS", 4)
    rounds.submit("job-large", 10, "default", "image", "done")
    finish(ledger, take, 6)
    forget_events(farm_redis, "job-large")
    told = rounds.look()
    assert told >= {f"job-large-{index}-1" for index in range(4)}
    for _ in range(4):  # with two events each
        finish(ledger, take, 1)
        told |= rounds.look()
    while rounds.hooks():
        told |= rounds.look()
    assert told == {f"job-large-{index}-1" for index in range(10)} | {"job-large-end"}


def test_a_host_that_is_down_fills_redis_with_no_more_than_it_may(
    rounds: Rounds, ledger: Ledger, take: Take, farm_redis: FarmRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_dispatcher, "EVENTS", 4)
    monkeypatch.setattr(webhook_deliveries, "FULL", 4)
    rounds.submit("job-large", 12, "default", "image", "done")
    told: set[str] = set()
    for _ in range(2):  # it is down, twice, and comes back
        finish(ledger, take, 6)
        for _ in range(6):
            assert len(rounds.look()) <= 6  # as many as one look may make beyond
        forget_events(farm_redis, "job-large")
        told |= rounds.look()
        rounds.deliver_all()
    while rounds.hooks():
        told |= rounds.look()
        rounds.deliver_all()
    assert told == {f"job-large-{index}-1" for index in range(12)} | {"job-large-end"}


def test_what_was_caught_up_with_is_not_told_again_after_the_next_gap(
    rounds: Rounds, ledger: Ledger, take: Take, farm_redis: FarmRedis
) -> None:
    rounds.submit("job-large", 9, "default", "image", "done")
    for expected in (range(3), range(3, 6), range(6, 9)):
        finish(ledger, take, 3)
        forget_events(farm_redis, "job-large")
        made = rounds.look() - {"job-large-end"}
        assert made == {f"job-large-{index}-1" for index in expected}
        rounds.deliver_all()


def test_what_is_caught_up_with_ends_with_its_job(
    rounds: Rounds, ledger: Ledger, take: Take, farm_redis: FarmRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_dispatcher, "EVENTS", 2)
    rounds.submit("job-large", 6, "default", "image", "done")
    finish(ledger, take, 6)
    forget_events(farm_redis, "job-large")
    rounds.look()
    assert rounds.hooks() == {"job-large"}
    ledger.remove("job-large", "default")
    rounds.look()
    monkeypatch.setattr(webhook_dispatcher, "ORPHAN", 0)
    rounds.look()
    assert rounds.hooks() == set()


def test_the_end_of_a_job_is_told_where_its_last_image_was_the_last_event_to_be_read(
    rounds: Rounds, ledger: Ledger, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_dispatcher, "EVENTS", 3)  # submitted, running, done: and then the job's end
    rounds.submit("job-quick", 1, "default", "done")
    finish(ledger, take, 1)
    rounds.look()
    assert rounds.look() == {"job-quick-end"}
    assert rounds.hooks() == set()
