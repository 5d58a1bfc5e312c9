"""Who looks at a job's images sees them on their way; where nobody looks, nobody paints."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from redis import Redis

from img2img_shared.errors import NotFound, Unavailable
from img2img_shared.job import Job
from img2img_shared.ledger import FarmRedis, Ledger, connect
from img2img_shared.ledger.previews import Previews
from img2img_shared.params import Params
from img2img_shared.records import Claim
from img2img_worker.engine.engine import Engine
from img2img_worker.farm.events import tell_all
from img2img_worker.farm.leases import Leases
from img2img_worker.farm.preview_publisher import PreviewPublisher
from tests.loaded_model import loaded_model
from tests.servers import RedisServer
from tests.unit.engine_toys import ToyFamily, render

JOB, TENANT, MODEL = "job-0000", "default", "m"


@pytest.fixture
def raw(redis: Redis) -> Any:
    return redis


@pytest.fixture
def ledger(farm_redis: FarmRedis) -> Ledger:
    ledger = Ledger(farm_redis)
    ledger.submit(Job(id=JOB, model=MODEL, params=Params(seed=1, subseed=1), n_inputs=3))
    return ledger


@pytest.fixture
def previews(farm_redis: FarmRedis, ledger: Ledger) -> Previews:
    return Previews(farm_redis)


def claimed(ledger: Ledger) -> Claim:
    claim = ledger.claim(MODEL, "w", "nonce", idle=True)
    assert claim is not None
    return claim


def test_a_look_gives_what_was_shown_last(previews: Previews) -> None:
    assert previews.look(JOB, TENANT, 1) is None
    previews.show(JOB, 1, b"early")
    previews.show(JOB, 1, b"late")
    previews.show(JOB, 2, b"another")
    assert previews.look(JOB, TENANT, 1) == b"late"
    assert previews.look(JOB, TENANT, 0) is None


def test_steps_are_told_of_those_images_of_which_they_are_known(previews: Previews) -> None:
    assert previews.steps(JOB, TENANT, []) == []
    assert previews.watched({JOB}) == set()
    assert previews.steps(JOB, TENANT, [0, 1, 2]) == []
    assert previews.watched({JOB}) == {JOB}
    previews.count(JOB, 1, 3, 20)
    previews.count(JOB, 1, 4, 20)
    previews.count(JOB, 2, 20, 20)
    assert previews.steps(JOB, TENANT, [0, 1, 2]) == [(4, 20), (20, 20)]


def test_a_job_is_watched_once_it_was_looked_at(previews: Previews) -> None:
    assert previews.watched({JOB, "job-0001"}) == set()
    previews.look(JOB, TENANT, 0)
    assert previews.watched({JOB, "job-0001"}) == {JOB}
    assert previews.watched(()) == set()


def test_nobody_sees_or_asks_for_what_is_not_theirs(previews: Previews) -> None:
    previews.show(JOB, 0, b"mine")
    for job, tenant in ((JOB, "other"), ("job-0001", TENANT)):
        with pytest.raises(NotFound, match=job):
            previews.look(job, tenant, 0)
        with pytest.raises(NotFound, match=job):
            previews.steps(job, tenant, [0])
    assert previews.watched({JOB, "job-0001"}) == set()


def test_nothing_of_it_outlives_the_watching(previews: Previews, raw: Any) -> None:
    before = set(raw.keys())
    previews.look(JOB, TENANT, 0)
    previews.show(JOB, 0, b"mine")
    previews.count(JOB, 0, 1, 2)
    left = set(raw.keys()) - before
    assert len(left) == 3
    assert all(0 < raw.ttl(key) <= 10 for key in left)


def test_farms_that_share_a_redis_do_not_see_each_others(previews: Previews, redis_url: str) -> None:
    previews.look(JOB, TENANT, 0)
    with connect(redis_url, "other") as other:
        assert Previews(other).watched({JOB}) == set()


def test_a_redis_that_is_away_is_unavailable(mortal_redis: RedisServer) -> None:
    previews = Previews(connect(mortal_redis.url))
    mortal_redis.kill()
    with pytest.raises(Unavailable):
        previews.look(JOB, TENANT, 0)
    with pytest.raises(Unavailable):
        previews.show(JOB, 0, b"")
    with pytest.raises(Unavailable):
        previews.steps(JOB, TENANT, [0])
    with pytest.raises(Unavailable):
        previews.count(JOB, 0, 1, 2)
    with pytest.raises(Unavailable):
        previews.watched({JOB})


@pytest.fixture
def leases(ledger: Ledger) -> Leases:
    return Leases(ledger, tell_all())


class Watched:
    """An image that is rendered in ever so many steps, until it is released; its previews are published."""

    def __init__(self, previews: Previews, leases: Leases, claim: Claim, engine: Engine) -> None:
        self.engine = engine
        held = leases.hold(claim, loaded_model(engine))
        slow = render(1, steps=150, denoising_strength=1, sampler_name="DPM2")
        self.picture = held.picture = engine.submit(slow, held.counter())
        self.publisher = PreviewPublisher(previews=previews, leases=leases, seconds=0.01)


@pytest.fixture
def family() -> ToyFamily:
    return ToyFamily()


@pytest.fixture
def watched(family: ToyFamily, previews: Previews, leases: Leases, ledger: Ledger) -> Iterator[Watched]:
    with Engine(family, slots=1) as engine:
        watched = Watched(previews, leases, claimed(ledger), engine)
        yield watched
        watched.publisher.stop()


def test_what_is_watched_is_shown_as_a_small_jpeg_while_it_is_rendered(
    watched: Watched, family: ToyFamily, previews: Previews
) -> None:
    seen = []

    def look(*_: object) -> None:
        # in the model's place: the picture cannot be done before somebody has seen it
        jpeg = previews.look(JOB, TENANT, 0)
        if jpeg is not None:
            seen.append(jpeg)
        elif len(family.rows) < 100:
            family.rows.clear()

    family.before = look
    watched.publisher.start()
    watched.picture.result(60)
    with Image.open(io.BytesIO(seen[0])) as image:
        assert image.format == "JPEG"
        assert image.size == (8, 8)
        assert np.asarray(image).std() > 0
    assert len(set(seen)) > 1
    ((done, total),) = previews.steps(JOB, TENANT, [0])
    assert 0 < done <= total > 150


def test_where_nobody_watches_nothing_is_published(
    watched: Watched, family: ToyFamily, previews: Previews, raw: Any
) -> None:
    watched.publisher.start()
    watched.picture.result(60)
    assert not raw.keys("*preview*")
    assert not raw.keys("*steps*")
    # the map to colours was not even fitted: one picture was encoded, the init image
    assert family.encoded == [1]
