"""The store on a real S3 server."""

import http.client
from concurrent.futures import ThreadPoolExecutor

import pytest

from img2img_shared.errors import StoreError
from img2img_shared.store import Store
from tests.s3 import S3Server


def test_what_is_put_is_got_listed_and_deleted(s3_url: str) -> None:
    store = Store(s3_url)
    store.put("jobs/abcdefgh/0.png", b"first")
    store.put("jobs/abcdefgh/0.png", b"second")
    assert store.get("jobs/abcdefgh/0.png") == b"second"
    assert list(store.list("jobs/abcdefgh")) == ["jobs/abcdefgh/0.png"]
    store.delete("jobs/abcdefgh/0.png")
    store.delete("jobs/abcdefgh/0.png")
    assert not store.exists("jobs/abcdefgh/0.png")


def test_two_stores_with_one_url_see_the_same_and_two_prefixes_do_not(s3_url: str) -> None:
    key = Store(s3_url).put_picture("default", b"picture")
    assert Store(s3_url).get(key) == b"picture"
    assert not Store(s3_url + "/further").exists(key)


def test_one_input_from_many_threads_is_stored_once_and_all_succeed(s3_url: str) -> None:
    store = Store(s3_url)
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: store.put_picture("default", b"picture" * 1000), range(40)))
    assert list(store.list("inputs")) == list(keys)


def test_a_picture_that_is_damaged_is_put_right_by_the_next_upload(s3_url: str) -> None:
    store = Store(s3_url)
    key = store.put_picture("default", b"picture")
    store.put(key, b"Picture")
    with pytest.raises(StoreError, match="is damaged"):
        store.get_picture(key)
    store.put_picture("default", b"picture")
    assert store.get_picture(key) == b"picture"


def test_a_picture_larger_than_a_part_goes_in_one_piece(s3_url: str) -> None:
    data = bytes(range(256)) * 40_000
    store = Store(s3_url)
    assert store.get(store.put_picture("default", data)) == data


def test_a_list_goes_beyond_the_servers_page(s3_url: str) -> None:
    store = Store(s3_url)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: store.put(f"jobs/abcdefgh/{i}.png", b""), range(1005)))
    assert len(list(store.list("jobs/abcdefgh"))) == 1005


def test_a_signed_url_gives_the_picture_to_anyone(s3_url: str) -> None:
    store = Store(s3_url)
    url = store.sign(store.put_picture("default", b"picture"), seconds=60)
    assert url is not None
    host, _, path = url.removeprefix("http://").partition("/")
    anyone = http.client.HTTPConnection(host)
    anyone.request("GET", f"/{path}")
    assert anyone.getresponse().read() == b"picture"
    anyone.close()


def test_a_missing_object_is_not_worth_a_retry(s3_url: str) -> None:
    with pytest.raises(StoreError, match="there is no such object") as caught:
        Store(s3_url).get("jobs/abcdefgh/0.png")
    assert not caught.value.transient


def test_a_bucket_that_does_not_exist_is_named_and_is_not_worth_a_retry(s3_url: str) -> None:
    store = Store("s3://nowhere/farm")
    with pytest.raises(StoreError, match=r"s3://nowhere/farm: the bucket does not exist") as caught:
        store.put_picture("default", b"picture")
    assert (caught.value.transient, caught.value.mendable) == (False, True)
    with pytest.raises(StoreError, match="404") as caught:
        list(store.list("inputs"))
    assert (caught.value.transient, caught.value.mendable) == (False, True)


def test_a_server_that_went_away_is_worth_a_retry_and_serves_again(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = S3Server()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    store = Store(f"s3://{server.make_bucket()}")
    store.put_picture("default", b"picture")
    server.stop()
    with pytest.raises(StoreError, match="cannot write inputs/") as caught:
        store.put_picture("default", b"another")
    assert caught.value.transient
    assert "\n" not in str(caught.value)
    server.start(server.port)
    try:
        again = Store(f"s3://{server.make_bucket()}")
        assert again.get(again.put_picture("default", b"another")) == b"another"
    finally:
        server.remove()
