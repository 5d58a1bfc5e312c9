"""Opens a store by its URL."""

import re
from datetime import timedelta
from pathlib import Path

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store, from_url

from img2img_shared.errors import Refused, StoreError
from img2img_shared.store_errors import why

_KINDS = "give a folder, file:///folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or memory://"
_REMOTE = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")


def folder_of(url: str) -> Path | None:
    """The folder that a URL means; None if it means no folder."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return Path(url).expanduser().absolute()
    if scheme[1].lower() != "file":
        return None
    if not url.startswith("file:///"):
        raise Refused("store_url", url, "write file:///folder, with three slashes before an absolute path")
    return Path(url.removeprefix("file://"))


def open_store(url: str, folder: Path | None) -> LocalStore | MemoryStore | S3Store | GCSStore | AzureStore:
    """The library's store for a URL; a folder is created if it does not exist.

    Raises:
        Refused: a URL of another kind, or one without its bucket or account.
        StoreError: the folder cannot be created.
    """
    if not url.strip():
        raise Refused("store_url", url, _KINDS)
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make the folder {folder} for the store: {error.strerror}", transient=False
            ) from error
        return LocalStore(folder)
    scheme, _, rest = url.partition("://")
    if scheme.lower() == "memory" and not rest.strip("/"):
        return MemoryStore()
    if scheme.lower() not in _REMOTE or not rest.strip("/"):
        raise Refused("store_url", url, _KINDS)
    try:
        store = from_url(
            url,
            client_options={"allow_http": True, "connect_timeout": "5s", "timeout": "60s"},
            # a worker retries by itself, with the lease in mind: the library's three minutes are too long
            retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=20)},
        )
    except (BaseError, ValueError) as error:
        if re.search("Missing (AccessKeyId|SecretAccessKey)", str(error)):
            reason = "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set: export both"
            raise Refused("store_url", url, reason) from None
        raise Refused("store_url", url, f"{_KINDS} ({why(error)})") from None
    if not isinstance(store, S3Store | GCSStore | AzureStore):
        raise Refused("store_url", url, _KINDS)
    return store
