"""A mark in the farm's store that there are API keys, for when Redis loses its data."""

from img2img_shared.errors import StoreError, Unavailable
from img2img_shared.store import Store

#: where it lies
KEY = "gateway/has-keys"
_TEXT = b"""\
As long as this lies here, the farm's gateways answer nobody who shows no API key, whatever Redis knows.
It goes when the last key is revoked (img2img key revoke).
"""


class KeysMark:
    """The mark of one farm. Methods raise `Unavailable` if its store cannot be read or written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: as it was read, or written, here
        self._is_there: bool | None = None

    def is_there(self) -> bool:
        """Whether there were keys, and the last was not revoked; read once."""
        if self._is_there is None:
            self._is_there = self._ask()
        return self._is_there

    def put(self) -> None:
        """Note that there are keys."""
        if self._is_there:
            return
        try:
            self._store.put(KEY, _TEXT)
        except StoreError as error:
            told = f"cannot note in the store that there are API keys: {error}"
            raise Unavailable(told, reason=error.reason) from error
        self._is_there = True

    def remove(self) -> None:
        """Note that the last key was revoked."""
        self._is_there = None
        try:
            self._store.delete(KEY)
        except StoreError as error:
            told = f"the store still holds {KEY!r}, which is to be removed by hand: {error}"
            raise Unavailable(told, reason=error.reason) from error
        self._is_there = False

    def _ask(self) -> bool:
        try:
            return self._store.exists(KEY)
        except StoreError as error:
            told = f"whether the farm has API keys is not known: {error}"
            raise Unavailable(told, reason=error.reason) from error
