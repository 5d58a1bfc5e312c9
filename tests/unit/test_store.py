"""The store on a folder and in memory, and the URLs it takes; a real S3 server is in tests/integration."""

import errno
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError

from img2img_shared import store_errors
from img2img_shared.errors import FarmError, Refused, StoreError
from img2img_shared.store import Store
from img2img_shared.store_folder import StoreFolder


@pytest.fixture(params=["folder", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind that needs no server."""
    urls = {"folder": str(tmp_path / "a b" / "ü"), "file": f"file://{tmp_path}/files", "memory": "memory://"}
    return Store(urls[request.param])


def test_an_input_lies_under_its_hash(store: Store) -> None:
    key = store.put_picture("default", b"picture")
    assert key == "inputs/default/" + hashlib.sha256(b"picture").hexdigest()
    assert store.get(key) == b"picture"


def test_the_same_input_is_stored_once(store: Store) -> None:
    assert store.put_picture("default", b"picture") == store.put_picture("default", b"picture")
    assert len(list(store.list("inputs"))) == 1


def test_a_put_replaces_what_was_there(store: Store) -> None:
    store.put("jobs/abcdefgh/0.png", b"first")
    store.put("jobs/abcdefgh/0.png", b"second")
    assert store.get("jobs/abcdefgh/0.png") == b"second"


def test_a_list_holds_the_keys_of_one_folder_only(store: Store) -> None:
    for key in ("jobs/abcdefgh/0.png", "jobs/abcdefgh/inputs/000000.msgpack", "jobs/abcdefghi/0.png"):
        store.put(key, b"x")
    assert sorted(store.list("jobs/abcdefgh")) == [
        "jobs/abcdefgh/0.png",
        "jobs/abcdefgh/inputs/000000.msgpack",
    ]
    assert list(store.list("jobs/nobody")) == []


def test_what_is_deleted_is_gone_and_may_be_deleted_again(store: Store) -> None:
    store.put("jobs/abcdefgh/0.png", b"x")
    assert store.exists("jobs/abcdefgh/0.png")
    store.delete("jobs/abcdefgh/0.png")
    store.delete("jobs/abcdefgh/0.png")
    assert not store.exists("jobs/abcdefgh/0.png")


def test_a_missing_object_is_told_by_its_key_and_is_not_worth_a_retry(store: Store) -> None:
    with pytest.raises(StoreError, match=r"jobs/abcdefgh/7\.png.*no such object") as caught:
        store.get("jobs/abcdefgh/7.png")
    assert not caught.value.transient


def test_a_store_without_urls_signs_nothing(store: Store) -> None:
    assert store.sign(store.put_picture("default", b"picture"), 60) is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        "inputs/.hidden",
        "a b",
        "ä",
        "a\n",
        "a\\b",
        "x" * 513,
    ],
)
def test_a_key_that_the_farm_would_not_make_is_refused(store: Store, key: str) -> None:
    for use in (
        store.get,
        store.exists,
        store.delete,
        lambda k: store.put(k, b""),
        lambda k: store.sign(k, 1),
    ):
        with pytest.raises(StoreError, match="is no key"):
            use(key)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "  ",
        "ftp://host/x",
        "s3://",
        "s3:/bucket",
        "http://host/x",
        "memory://x",
        "file://relative",
        "az://c/p",
    ],
)
def test_a_url_of_another_kind_is_refused_by_name(url: str) -> None:
    with pytest.raises(Refused, match="store_url"):
        Store(url)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        FarmError, match=r"cannot make the folder .*file/store for the store: Not a directory"
    ):
        Store(tmp_path / "file" / "store")


@pytest.mark.parametrize("damaged", [b"", b"Picture", b"another picture"])
def test_a_picture_that_is_damaged_is_not_given_and_put_right_by_the_next_upload(
    tmp_path: Path, damaged: bytes
) -> None:
    store = Store(tmp_path)
    key = store.put_picture("default", b"picture")
    assert store.get_picture(key) == b"picture"
    (tmp_path / key).write_bytes(damaged)
    with pytest.raises(StoreError, match="is damaged") as caught:
        store.get_picture(key)
    assert not caught.value.transient
    assert store.put_picture("default", b"picture") == key
    assert store.get_picture(key) == b"picture"


def test_tenants_share_no_picture(store: Store) -> None:
    keys = [store.put_picture(tenant, b"picture") for tenant in ("one", "two")]
    assert keys[0] != keys[1]
    store.delete(keys[0])
    assert store.get_picture(keys[1]) == b"picture"


@pytest.mark.parametrize("tenant", ["", ".", "..", "../jobs", ".hidden"])
def test_a_tenants_name_leads_nowhere_else(store: Store, tenant: str) -> None:
    with pytest.raises(StoreError, match="is no key of this farm"):
        store.put_picture(tenant, b"picture")


def test_a_folder_in_the_way_of_a_key_is_not_worth_a_retry(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("jobs/abcdefgh", b"a file")
    with pytest.raises(StoreError, match=r"cannot write jobs/abcdefgh/0\.png") as caught:
        store.put("jobs/abcdefgh/0.png", b"x")
    assert not caught.value.transient
    assert "\n" not in str(caught.value)


@pytest.fixture
def share(tmp_path: Path) -> tuple[Store, Callable[[], None]]:
    """A store with one object, and what takes its share away, or brings it back."""
    store = Store(tmp_path / "store")
    for key in ("farm-id", "jobs/a"):
        store.put(key, b"x")
    store.expect("farm-id", lambda: "x")
    (tmp_path / "other").mkdir()

    def toggle() -> None:
        (tmp_path / "store").rename(tmp_path / "moved")
        (tmp_path / "other").rename(tmp_path / "store")
        (tmp_path / "moved").rename(tmp_path / "other")

    return store, toggle


ASKED: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get("jobs/a"),
    "head": lambda store: store.exists("jobs/a"),
    "delete": lambda store: store.delete("jobs/a"),
    "list": lambda store: list(store.list("jobs")),
    "list_with_delimiter": lambda store: list(store.folders("jobs")),
}


@pytest.mark.parametrize("call", ASKED)
def test_nothing_is_missing_from_a_share_that_is_not_mounted(
    share: tuple[Store, Callable[[], None]], call: str
) -> None:
    store, toggle = share
    toggle()
    with pytest.raises(StoreError, match="is its share mounted") as raised:
        ASKED[call](store)
    assert (raised.value.transient, raised.value.missing) == (True, False)
    toggle()
    assert store.get("jobs/a") == b"x"


@pytest.mark.parametrize("call", ["get", "head", "delete"])
def test_what_a_share_has_that_came_back_a_moment_ago_is_not_missing(
    share: tuple[Store, Callable[[], None]], call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, toggle = share
    toggle()
    original = getattr(obstore, call)

    def mounted_after(*args: Any) -> Any:
        try:
            return original(*args)
        finally:
            toggle()

    with monkeypatch.context() as patch:
        patch.setattr(obstore, call, mounted_after)
        with pytest.raises(StoreError, match="is its share mounted") as raised:
            ASKED[call](store)
    assert (raised.value.transient, raised.value.missing) == (True, False)
    assert store.get("jobs/a") == b"x"


def test_what_was_written_beside_a_share_that_comes_back_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder, away = Store(tmp_path / "store"), tmp_path / "store", tmp_path / "away"
    store.put("farm-id", b"x")
    store.expect("farm-id", lambda: "x")
    folder.rename(away)
    folder.mkdir()
    sync = StoreFolder.sync

    def mounted_after(self: StoreFolder, key: str) -> None:
        sync(self, key)
        folder.rename(tmp_path / "beside")
        away.rename(folder)

    with monkeypatch.context() as patch:
        patch.setattr(StoreFolder, "sync", mounted_after)
        with pytest.raises(StoreError, match="is its share mounted") as raised:
            store.put("jobs/a", b"x")
    assert raised.value.transient
    store.put("jobs/a", b"x")
    assert store.get("jobs/a") == b"x"


def test_a_folder_that_goes_while_it_is_written_to_is_worth_a_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = obstore.put

    def put_and_lose(*args: Any, **kwargs: Any) -> None:
        put(*args, **kwargs)
        shutil.rmtree(tmp_path / "store")

    monkeypatch.setattr(obstore, "put", put_and_lose)
    with pytest.raises(StoreError, match="its folder is gone") as raised:
        Store(tmp_path / "store").put("jobs/a", b"x")
    assert raised.value.transient


def test_the_reason_for_others_does_not_say_where_the_store_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("jobs/abcdefgh", b"a file")
    with pytest.raises(StoreError, match=str(tmp_path)) as caught:
        store.put("jobs/abcdefgh/0.png", b"x")
    assert caught.value.reason == "the store cannot write jobs/abcdefgh/0.png: Not a directory"


S3 = "Generic S3 error: Error performing PUT http://10.0.0.1:9000/b/jobs/1/0.png in 5ms, after 4 retries - "
LOCAL = "Generic LocalFileSystem error: Unable to open file /mnt/farm/jobs/1/0.png#1: "


@pytest.mark.parametrize(
    ("said", "why", "transient"),
    [
        (LOCAL + "Permission denied (os error 13)", "Permission denied", False),
        (LOCAL + "Read-only file system (os error 30)\n\nDebug source:", "Read-only file system", False),
        (LOCAL + "No space left on device (os error 28)", "No space left on device", True),
        (LOCAL + "Stale file handle (os error 116)", "Stale file handle", True),
        (S3 + "HTTP error: error sending request", "the server does not answer", True),
        (
            S3 + "Server returned non-2xx status code: 503 Service Unavailable: <Error><Code>SlowDown</Code>",
            "the server answers 503 Service Unavailable (SlowDown)",
            True,
        ),
        (
            S3 + "Server returned non-2xx status code: 507 Insufficient Storage: ",
            "the server answers 507 Insufficient Storage",
            True,
        ),
        (
            S3 + "Server returned non-2xx status code: 501 Not Implemented: <Code>NotImplemented</Code>",
            "the server answers 501 Not Implemented (NotImplemented)",
            False,
        ),
        (
            S3 + "Server returned non-2xx status code: 400 Bad Request: <Code>ExpiredToken</Code>",
            "the server answers 400 Bad Request (ExpiredToken), as the credentials have expired",
            False,
        ),
        (
            S3 + "Server returned non-2xx status code: 400 Bad Request: <Code>RequestTimeout</Code>",
            "the server answers 400 Bad Request (RequestTimeout)",
            True,
        ),
    ],
)
def test_the_librarys_errors_in_a_few_words_without_paths_and_addresses(
    said: str, why: str, transient: bool
) -> None:
    error = GenericError(said)
    assert (store_errors.why(error), store_errors.is_transient(error)) == (why, transient)


@pytest.mark.parametrize(
    ("error", "is_for_operator"),
    [
        (GenericError(S3 + "Server returned non-2xx status code: 403 Forbidden: "), True),
        (GenericError("Server returned non-2xx status code: 401 Unauthorized: "), True),
        (GenericError(LOCAL + "Read-only file system (os error 30)"), True),
        (PermissionError(errno.EACCES, "Permission denied"), True),
        (
            GenericError(S3 + "Server returned non-2xx status code: 400 Bad Request: <Code>BadDigest</Code>"),
            False,
        ),
        (GenericError(LOCAL + "File name too long (os error 36)"), False),
    ],
)
def test_what_whoever_runs_the_farm_has_to_mend_is_told_from_what_nobody_can(
    error: Exception, is_for_operator: bool
) -> None:
    assert store_errors.is_mendable(error) is is_for_operator


def test_a_cloud_store_without_credentials_says_which_it_looks_for() -> None:
    """Without any, the library asks the machine's metadata service, and tells of that alone."""
    asked = OSError("Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 3s")
    assert "no credentials in the environment (AWS_ACCESS_KEY_ID" in store_errors.why(asked)


def test_half_of_the_credentials_are_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "half")
    with pytest.raises(Refused, match="only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set"):
        Store("s3://renders")
