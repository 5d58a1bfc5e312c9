"""Storage of pictures: a folder, S3, Google's, Azure's or memory, through one small interface (obstore)."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import AzureStore, GCSStore, S3Store

from img2img_shared.errors import StoreError, Unavailable
from img2img_shared.job import picture_digest, picture_key
from img2img_shared.store_access import StoreAccess
from img2img_shared.store_errors import is_unsupported
from img2img_shared.store_folder import StoreFolder
from img2img_shared.store_url import folder_of, open_store

if TYPE_CHECKING:
    from obstore import Attributes

#: keys are made by the farm (hashes, job ids, indices), never of a user's text
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
#: the attribute of an object that holds the SHA-256 of its bytes
_SHA256 = "sha256"
#: how often an object is read that does not have it: an answer may have been cut short on its way
_READS = 3


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object, as a listing shows it."""

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
        self._access = StoreAccess(self.url, self._folder)
        self._store = open_store(self.url, folder)

    def expect(self, marker: str, text: Callable[[], str | None]) -> None:
        """From now on, trust a folder only while it has an object `marker` that contains `text`.

        A network share that is no longer mounted leaves an empty folder behind, which accepts any write.
        Without the marker, nothing counts as written to a folder, or as missing from it.

        Args:
            text: returns the object's content, or None while nobody has written it; called until it is known.
        """
        if self._folder is not None:
            self._folder.expect(_check_key(marker), text)

    def put_picture(self, tenant: str, data: bytes) -> str:
        """Store a tenant's picture under its SHA-256, once.

        A copy that a power cut or a failing disk has damaged is replaced. The picture counts as written now.

        Returns:
            its key, ``inputs/<tenant>/<sha256>``.

        Raises:
            StoreError: it could not be written.
        """
        key = _check_key(picture_key(tenant, hashlib.sha256(data).hexdigest()))
        if self._folder is None:
            self.put(key, data)  # the bytes are sent either way, so writing the same ones costs no more
            return key
        if not self.create(key, data):
            if self.get(key) == data:
                with self._access.call("write", key):
                    self._folder.touch(key)
            else:
                self.put(key, data)
        return key

    def get_picture(self, key: str) -> bytes:
        """A picture's bytes, checked against the SHA-256 in its key.

        Raises:
            StoreError: as `get`, or it is damaged.
        """
        data = self.get(key)
        if hashlib.sha256(data).hexdigest() != picture_digest(key):
            reason = "it is damaged: its bytes are not those that were uploaded; upload the picture again"
            raise self._access.error("read", key, reason)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Write a whole object, replacing any other.

        Raises:
            StoreError: it could not be written.
        """
        self._put(_check_key(key), data, create=False)

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless one with that key exists.

        Of several writers at once one succeeds, but for servers without conditional writes (Backblaze's B2):
        there all of them may, and the last one's object stays.

        Returns:
            whether there was none.

        Raises:
            StoreError: it could not be written.
        """
        try:
            self._put(_check_key(key), data, create=True)
        except AlreadyExistsError:
            return False
        except StoreError as error:
            if not is_unsupported(error.__cause__):
                raise
            if self.exists(key):
                return False
            self.put(key, data)
        return True

    def get(self, key: str) -> bytes:
        """The object's bytes, checked against the SHA-256 that cloud stores keep with it.

        Raises:
            StoreError: it is not there (not transient), cannot be read, or is damaged.
        """
        for _ in range(_READS):
            with self._access.call("read", _check_key(key)):
                found = obstore.get(self._store, key)
                data = bytes(found.bytes())
            written = found.attributes.get(_SHA256)  # None: a folder has none, nor has what others put there
            if written is None or written == hashlib.sha256(data).hexdigest():
                return data
        raise self._access.error("read", key, "it is damaged: its bytes are not those that were written")

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """The object's bytes from `start` to `end` (exclusive); it must have that many.

        Raises:
            StoreError: like `get`.
        """
        with self._access.call("read", _check_key(key)):
            return bytes(obstore.get_range(self._store, key, start=start, end=end))

    def exists(self, key: str) -> bool:
        """Whether there is such an object.

        Raises:
            StoreError: the store cannot be asked.
        """
        return self._size(_check_key(key)) is not None

    def list(self, prefix: str) -> Iterator[str]:
        """The keys of all objects under the folder `prefix` ("jobs/<id>"), in any order.

        Raises:
            StoreError: the store cannot be asked.
        """
        for found in self.objects(prefix):
            yield found.key

    def objects(self, prefix: str) -> Iterator["StoredObject"]:
        """All objects under the folder `prefix`; those of one subfolder are consecutive.

        Raises:
            StoreError: the store cannot be asked.
        """
        with self._access.call("list", _check_key(prefix.rstrip("/"))):
            for page in obstore.list(self._store, prefix.rstrip("/")):
                for item in page:
                    yield StoredObject(
                        key=item["path"], size=item["size"], written=item["last_modified"].timestamp()
                    )
            self._access.check_folder("list", prefix)

    def written(self, key: str) -> float | None:
        """When an object was written, in seconds since 1970 by the store's clock; None if it does not exist.

        Raises:
            StoreError: the store cannot be asked.
        """
        with self._access.call("look up", _check_key(key)):
            try:
                return obstore.head(self._store, key)["last_modified"].timestamp()
            except FileNotFoundError:
                return None

    def folders(self, prefix: str) -> Iterator[str]:
        """The names of the folders directly under the folder `prefix`, in any order.

        Raises:
            StoreError: the store cannot be asked.
        """
        with self._access.call("list", _check_key(prefix)):
            for folder in obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]:
                yield folder.removesuffix("/").rpartition("/")[2]
            self._access.check_folder("list", prefix)

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if it does not exist.

        Raises:
            StoreError: it could not be removed.
        """
        with self._access.call("delete", _check_key(key)):
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:  # folders say so, cloud stores do not
                self._access.check_missing("delete", key)

    def delete_all(self, prefix: str) -> int:
        """Remove the folder `prefix` ("jobs/<id>") with everything in it.

        Returns:
            how many objects were removed.

        Raises:
            StoreError: something could not be removed.
        """
        keys = list(self.list(prefix))
        for key in keys:
            self.delete(key)
        if self._folder is not None:  # cloud stores have no folders
            self._folder.remove_empty(prefix)
        return len(keys)

    def try_out(self, key: str, size: int) -> None:
        """Check that the store works: write an object of `size` bytes, read it back, and remove it.

        Raises:
            StoreError: it does not.
        """
        data = bytes(size)
        self.put(key, data)
        read = self.get(key)
        self.delete(key)
        if read != data:
            raise self._access.error("read", key, "it gives other bytes than were written", transient=False)

    def sign(self, key: str, seconds: float) -> str | None:
        """A URL that lets anyone read the object for some seconds.

        Returns:
            None where the store has no URLs: a folder, or memory.

        Raises:
            StoreError: there are no credentials to sign with.
        """
        _check_key(key)
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        with self._access.call("sign", key):
            return obstore.sign(self._store, "GET", key, timedelta(seconds=seconds))

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def _put(self, key: str, data: bytes, *, create: bool) -> None:
        with self._access.call("write", key, creating=create):
            # one request: an upload in parts cannot be create-only, and leaves its parts when it breaks
            mode: Literal["create", "overwrite"] = "create" if create else "overwrite"
            if self._folder is None:
                sha256 = hashlib.sha256(data).hexdigest()
                kept: Attributes = {_SHA256: sha256}
                obstore.put(self._store, key, data, mode=mode, use_multipart=False, attributes=kept)
                return
            obstore.put(self._store, key, data, mode=mode, use_multipart=False)
            self._access.check_written(key)

    def _size(self, key: str) -> int | None:
        with self._access.call("look up", key):
            try:
                return obstore.head(self._store, key)["size"]
            except FileNotFoundError:
                with suppress(Unavailable):  # whether it is the farm's is not known, but the store answers
                    self._access.check_missing("look up", key)
                return None


def _check_key(key: str) -> str:
    """The key itself.

    Raises:
        StoreError: the farm makes no such keys.
    """
    if not _KEY.fullmatch(key) or len(key) > 512:
        raise StoreError(
            f"{key[:80]!r} is no key of this farm; keys are made of [A-Za-z0-9_.-] and /", transient=False
        )
    return key
