"""The proof that a store is the farm's, on a real Redis and real stores."""

from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from img2img_producer import Farm
from img2img_shared.errors import StoreError
from img2img_shared.farm.marker import MARKER, StoreMarker
from img2img_shared.ledger import FarmRedis, Ledger
from img2img_shared.settings import Settings
from img2img_shared.store import Store
from tests.faults.farm import picture
from tests.faults.proxy import FaultyStore
from tests.s3 import S3Server


@pytest.fixture
def ledger(farm_redis: FarmRedis) -> Ledger:
    return Ledger(farm_redis)


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind."""
    return str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("s3_url")


def test_the_first_who_submits_marks_the_store_and_all_others_find_it_marked(
    url: str, ledger: Ledger
) -> None:
    StoreMarker(Store(url), ledger).check()  # a worker that comes first finds nothing to compare with
    assert ledger.farm_id() is None
    StoreMarker(Store(url), ledger).establish()
    StoreMarker(Store(url), ledger).establish()
    StoreMarker(Store(url), ledger).check()
    assert Store(url).get(MARKER).decode() == ledger.farm_id()


def test_a_server_without_conditional_writes_is_marked_too(
    s3_url: str, s3_server: S3Server, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyStore(s3_server.endpoint) as server:
        server.fault = "knows no conditions"
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        StoreMarker(Store(s3_url), ledger).establish()
        assert server.met
        assert Store(s3_url).get(MARKER).decode() == ledger.farm_id()
        assert not Store(s3_url).create(MARKER, b"another")
        StoreMarker(Store(s3_url), ledger).establish()


def test_who_was_there_before_the_first_job_misses_nothing_and_writes_nothing_beside_a_share(
    ledger: Ledger, tmp_path: Path
) -> None:
    early, folder = Store(tmp_path / "store"), tmp_path / "store"
    StoreMarker(early, ledger).check()
    StoreMarker(Store(folder), ledger).establish()
    early.put("jobs/a", b"picture")
    folder.rename(tmp_path / "away")
    folder.mkdir()
    asked: list[Callable[[], object]] = [lambda: early.get("jobs/a"), lambda: early.put("jobs/b", b"picture")]
    for ask in asked:
        with pytest.raises(StoreError, match="is its share mounted") as caught:
            ask()
        assert (caught.value.transient, caught.value.missing) == (True, False)


def test_a_store_without_the_marker_is_not_the_farms(url: str, ledger: Ledger, tmp_path: Path) -> None:
    StoreMarker(Store(url), ledger).establish()
    unmounted = StoreMarker(Store(tmp_path / "unmounted"), ledger)
    for use in (unmounted.check, unmounted.establish):
        with pytest.raises(StoreError, match=r"not the store of this farm.*there is none") as caught:
            use()
        assert str(ledger.farm_id()) in str(caught.value)
        assert caught.value.reason == "the store is not this farm's"
    assert not (tmp_path / "unmounted" / MARKER).exists()


def test_another_farms_store_is_told_by_both_ids_and_an_operator_may_write_the_right_one(
    url: str, ledger: Ledger, tmp_path: Path
) -> None:
    StoreMarker(Store(url), ledger).establish()
    other = Store(tmp_path / "other")
    other.put(MARKER, b"another")
    with pytest.raises(StoreError, match="here it holds 'another'"):
        StoreMarker(other, ledger).check()
    other.put(MARKER, f"{ledger.farm_id()}\n".encode())  # as echo writes it
    StoreMarker(other, ledger).check()
    assert other.get(other.put_picture("default", b"picture")) == b"picture"


def test_a_ledger_that_was_lost_takes_the_stores_id(url: str, ledger: Ledger, redis: Redis) -> None:
    marker = StoreMarker(Store(url), ledger)
    marker.establish()
    before = ledger.farm_id()
    redis.delete("{img2img}:farm-id")
    marker.establish()
    assert ledger.farm_id() == before


def test_a_farm_on_this_machine_marks_its_store_anew(tmp_path: Path, ledger: Ledger) -> None:
    StoreMarker(Store(tmp_path / "removed"), ledger).establish()
    StoreMarker(Store(tmp_path / "store"), ledger).establish(anew=True)
    StoreMarker(Store(tmp_path / "store"), ledger).check()


def test_a_picture_that_went_into_the_folder_under_an_unmounted_share_is_not_written(
    tmp_path: Path, ledger: Ledger
) -> None:
    store = Store(tmp_path / "share")
    StoreMarker(store, ledger).establish()
    store.put("jobs/abcdefgh/0.png", b"picture")
    (tmp_path / "share").rename(tmp_path / "elsewhere")
    (tmp_path / "share").mkdir()
    with pytest.raises(StoreError, match="not the farm's any more"):
        store.put("jobs/abcdefgh/1.png", b"picture")
    with pytest.raises(StoreError, match="not the farm's any more"):
        store.try_out("checks/w", 9)


def test_a_submit_to_the_wrong_store_is_refused_before_anything_is_uploaded(
    redis_url: str, tmp_path: Path
) -> None:
    def farm(store: str) -> Farm:
        return Farm(settings=Settings(redis_url=redis_url, store_url=str(tmp_path / store)))

    with farm("right") as right, farm("wrong") as wrong:
        right.submit(picture(1), model="m")
        with pytest.raises(StoreError, match="wrong is not the store of this farm") as caught:
            wrong.submit(picture(1), model="m")
        assert caught.value.mendable
        assert len(right.jobs()) == 1
    assert not list((tmp_path / "wrong").iterdir())
