"""Where pictures lie: a folder, S3, Google's, Azure's or memory, through one small interface (obstore)."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from img2img_shared.errors import StoreError, Unavailable
from img2img_shared.job import picture_digest, picture_key
from img2img_shared.store_errors import is_transient, why
from img2img_shared.store_folder import FolderAway, StoreFolder
from img2img_shared.store_url import folder_of, open_store

if TYPE_CHECKING:
    from obstore import Attributes

#: keys are made by the farm (hashes, job ids, indices), never of a user's text
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
#: the attribute of an object that holds the SHA-256 of its bytes
_SHA256 = "sha256"
#: how often an object is read that does not have it: an answer may have been cut short on its way
_READS = 3
_AWAY = "the folder is not the farm's any more (is its share mounted?)"


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """What a listing tells of an object."""

    key: str
    #: bytes
    size: int
    #: seconds since 1970, by the store's clock
    written: float


class Store:
    """An object store by URL; safe to share between threads.

    Endpoint and credentials of a cloud store come from its own environment variables (``AWS_ENDPOINT_URL``,
    ``AWS_ACCESS_KEY_ID``, ``AZURE_STORAGE_ACCOUNT_NAME``, ...); an http:// endpoint is allowed. What is put
    into memory:// is seen by this one `Store` only.

    >>> store = Store("memory://")
    >>> key = store.put_picture("default", b"a picture")
    >>> store.get_picture(key)
    b'a picture'

    Raises:
        Refused: for a URL of another kind, or one without its bucket or account.
        StoreError: for a folder that cannot be made.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        folder = folder_of(self.url)
        #: None: the store is none on a disk
        self._folder = None if folder is None else StoreFolder(folder)
        self._store = open_store(self.url, folder)

    def expect(self, marker: str, text: Callable[[], str | None]) -> None:
        """From now on nothing counts as written to a folder, or as missing from it, that has not this object.

        A share that is not mounted any more leaves an empty folder behind, which takes whatever it is given.

        Args:
            text: what the object holds, None: nobody has written it yet; asked until it is known.
        """
        if self._folder is not None:
            self._folder.expect(_checked(marker), text)

    def put_picture(self, tenant: str, data: bytes) -> str:
        """Keep a tenant's picture under its SHA-256, once; the key, ``inputs/<tenant>/<sha256>``.

        What a power cut or a failing disk left there instead is put right. It counts as written now.

        Raises:
            StoreError: it could not be written.
        """
        key = _checked(picture_key(tenant, hashlib.sha256(data).hexdigest()))
        if self._folder is None:
            self.put(key, data)  # its bytes are sent either way: over the same ones it costs no more
            return key
        if not self.create(key, data):
            if self.get(key) == data:
                with self._told("write", key):
                    self._folder.touch(key)
            else:
                self.put(key, data)
        return key

    def get_picture(self, key: str) -> bytes:
        """The bytes of a picture that was put, and no others.

        Raises:
            StoreError: as `get`, or they are not what was put.
        """
        data = self.get(key)
        if hashlib.sha256(data).hexdigest() != picture_digest(key):
            why = "it is damaged: its bytes are not those that were uploaded; upload the picture again"
            raise self._error("read", key, why)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole, over whatever was there.

        Raises:
            StoreError: it could not be written.
        """
        self._put(_checked(key), data, create=False)

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one of that name; whether there was none.

        Raises:
            StoreError: it could not be written.
        """
        try:
            self._put(_checked(key), data, create=True)
        except AlreadyExistsError:
            return False
        return True

    def get(self, key: str) -> bytes:
        """The object's bytes, as they were written: what comes over a network is held against their SHA-256.

        Raises:
            StoreError: it is not there (not transient), or cannot be read, or is other bytes by now.
        """
        for _ in range(_READS):
            with self._told("read", _checked(key)):
                found = obstore.get(self._store, key)
                data = bytes(found.bytes())
            written = found.attributes.get(_SHA256)  # None: a folder has none, nor has what others put there
            if written is None or written == hashlib.sha256(data).hexdigest():
                return data
        raise self._error("read", key, "it is damaged: its bytes are not those that were written")

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """The object's bytes from `start` up to `end`, which it has.

        Raises:
            StoreError: as `get`.
        """
        with self._told("read", _checked(key)):
            return bytes(obstore.get_range(self._store, key, start=start, end=end))

    def exists(self, key: str) -> bool:
        """Whether there is such an object.

        Raises:
            StoreError: the store does not tell.
        """
        return self._size(_checked(key)) is not None

    def list(self, prefix: str) -> Iterator[str]:
        """Keys of all objects under the folder `prefix` ("jobs/<id>"), in no given order.

        Raises:
            StoreError: the store does not tell.
        """
        for found in self.objects(prefix):
            yield found.key

    def objects(self, prefix: str) -> Iterator["StoredObject"]:
        """All objects under the folder `prefix`; those of one folder follow each other.

        Raises:
            StoreError: the store does not tell.
        """
        with self._told("list", _checked(prefix.rstrip("/"))):
            for page in obstore.list(self._store, prefix.rstrip("/")):
                for item in page:
                    yield StoredObject(
                        key=item["path"], size=item["size"], written=item["last_modified"].timestamp()
                    )
            self._expect_farms_folder("list", prefix)

    def written(self, key: str) -> float | None:
        """When an object was written, in seconds since 1970 by the store's clock; None: there is none.

        Raises:
            StoreError: the store does not tell.
        """
        with self._told("look up", _checked(key)):
            try:
                return obstore.head(self._store, key)["last_modified"].timestamp()
            except FileNotFoundError:
                return None

    def folders(self, prefix: str) -> Iterator[str]:
        """Names of the folders right under the folder `prefix`, in no given order.

        Raises:
            StoreError: the store does not tell.
        """
        with self._told("list", _checked(prefix)):
            for folder in obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]:
                yield folder.removesuffix("/").rpartition("/")[2]
            self._expect_farms_folder("list", prefix)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error.

        Raises:
            StoreError: it could not be removed.
        """
        with self._told("delete", _checked(key)):
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:  # a folder tells, the clouds do not
                self._expect_missing("delete", key)

    def delete_all(self, prefix: str) -> int:
        """Remove the folder `prefix` ("jobs/<id>") with all that is in it; how many objects these were.

        Raises:
            StoreError: something could not be removed.
        """
        keys = list(self.list(prefix))
        for key in keys:
            self.delete(key)
        if self._folder is not None:  # the clouds have no folders
            self._folder.remove_empty(prefix)
        return len(keys)

    def try_out(self, key: str, size: int) -> None:
        """Write an object of so many bytes, read it back and remove it.

        Raises:
            StoreError: one of these did not work.
        """
        data = bytes(size)
        self.put(key, data)
        read = self.get(key)
        self.delete(key)
        if read != data:
            raise self._error("read", key, "it gives other bytes than were written", transient=False)

    def sign(self, key: str, seconds: float) -> str | None:
        """A URL that lets anyone read the object for so long; None where the store has none (folder, memory).

        Raises:
            StoreError: there are no credentials to sign with.
        """
        _checked(key)
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        with self._told("sign", key):
            return obstore.sign(self._store, "GET", key, timedelta(seconds=seconds))

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def _put(self, key: str, data: bytes, *, create: bool) -> None:
        with self._told("write", key):
            # one request: an upload in parts cannot be create-only, and leaves its parts when it breaks
            mode: Literal["create", "overwrite"] = "create" if create else "overwrite"
            if self._folder is None:
                sha256 = hashlib.sha256(data).hexdigest()
                kept: Attributes = {_SHA256: sha256}
                obstore.put(self._store, key, data, mode=mode, use_multipart=False, attributes=kept)
                return
            obstore.put(self._store, key, data, mode=mode, use_multipart=False)
            self._folder.sync(key)
            if not self._holds(self._folder, "write", key):  # beside a share that came a moment later
                raise self._error("write", key, _AWAY, transient=True)

    def _size(self, key: str) -> int | None:
        with self._told("look up", key):
            try:
                return obstore.head(self._store, key)["size"]
            except FileNotFoundError:
                with suppress(Unavailable):  # the store answers, whosever it is
                    self._expect_missing("look up", key)
                return None

    def _expect_missing(self, what: str, key: str) -> None:
        """Hold that an object is not there against what is there now: its share may have been away just then.

        Raises:
            StoreError: the farm's folder is not there, or the object is.
            Unavailable: which folder is the farm's cannot be told.
        """
        if self._folder is None or not self._folder.is_told() or self._folder.is_marker(key):
            return
        if self._holds(self._folder, what, key):
            raise self._error(what, key, _AWAY, transient=True)

    def _expect_farms_folder(self, what: str, key: str) -> None:
        if self._folder is not None and self._folder.is_told():
            self._holds(self._folder, what, key)

    def _holds(self, folder: StoreFolder, what: str, key: str) -> bool:
        """Whether the farm's folder has the object.

        Raises:
            StoreError: another folder is there, or it does not tell.
        """
        try:
            return folder.holds(key)
        except FolderAway as error:
            raise self._error(what, key, _AWAY, transient=True) from error
        except OSError as error:
            raise self._error(what, key, why(error), transient=is_transient(error)) from error

    @contextmanager
    def _told(self, what: str, key: str) -> Iterator[None]:
        """The library's errors as `StoreError`, in one line that says what was tried, where and why not."""
        try:
            with self._told_of_marker(what, key):
                yield
        except AlreadyExistsError:
            raise
        except FileNotFoundError as error:
            with self._told_of_marker(what, key):
                self._expect_missing(what, key)
            if what == "read" and "<Code>NoSuchBucket<" not in str(error):
                raise self._error(what, key, "there is no such object", missing=True) from error
            if self._folder is not None:  # it was there a moment ago, when it was opened or written to
                raise self._error(what, key, "its folder is gone", transient=True) from error
            raise self._error(what, key, "the bucket does not exist") from error
        except (BaseError, OSError, ValueError) as error:
            raise self._error(what, key, why(error), transient=is_transient(error)) from error

    @contextmanager
    def _told_of_marker(self, what: str, key: str) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            why = f"whose folder it is cannot be told: {error.reason}"
            raise self._error(what, key, why, transient=True) from error

    def _error(
        self, what: str, key: str, why: str, *, transient: bool = False, missing: bool = False
    ) -> StoreError:
        return StoreError(
            f"cannot {what} {key} in {self.url}: {why}",
            transient=transient,
            missing=missing,
            reason=f"the store cannot {what} {key}: {why}",
        )


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key) or len(key) > 512:
        raise StoreError(
            f"{key[:80]!r} is no key of this farm; keys are made of [A-Za-z0-9_.-] and /", transient=False
        )
    return key
