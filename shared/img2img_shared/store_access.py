"""Wraps each call to a store: errors in plain words, and certainty that its folder is the farm's."""

from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import AlreadyExistsError, BaseError

from img2img_shared.errors import StoreError, Unavailable
from img2img_shared.store_errors import is_mendable, is_transient, why
from img2img_shared.store_folder import FolderAway, StoreFolder

_AWAY = "the folder is not the farm's any more (is its share mounted?)"


class StoreAccess:
    """A guard around the calls to one store.

    Args:
        url: the store's, for messages.
        folder: the store's, if it is on a disk.
    """

    def __init__(self, url: str, folder: StoreFolder | None) -> None:
        self._url = url
        self._folder = folder

    @contextmanager
    def call(self, action: str, key: str, *, creating: bool = False) -> Iterator[None]:
        """A context in which the library is called: its errors become one line of what, where and why.

        Args:
            action: "read", "write", "list", "look up", "delete" or "sign".
            creating: an object is written only if there is none.

        Raises:
            AlreadyExistsError: there is one. The library also raises it for any other conflict.
            StoreError: in place of all other errors of the library and the system.
        """
        try:
            with self._marker_errors(action, key):
                yield
        except AlreadyExistsError as error:
            if creating and not is_transient(error):
                raise
            raise self.error(action, key, why(error), transient=is_transient(error)) from error
        except FileNotFoundError as error:
            with self._marker_errors(action, key):
                self.check_missing(action, key)
            if action == "read" and "<Code>NoSuchBucket<" not in str(error):
                raise self.error(action, key, "there is no such object", missing=True) from error
            if self._folder is not None:  # it was there a moment ago, when it was opened or written to
                raise self.error(action, key, "its folder is gone", transient=True) from error
            raise self.error(action, key, "the bucket does not exist", mendable=True) from error
        except (BaseError, OSError, ValueError) as error:
            passes, is_for_operator = is_transient(error), is_mendable(error)
            raise self.error(action, key, why(error), transient=passes, mendable=is_for_operator) from error

    def check_missing(self, action: str, key: str) -> None:
        """Check again that an object is missing: its network share may have been away just then.

        Raises:
            StoreError: the farm's folder is not there, or the object exists.
            Unavailable: it cannot be told which folder is the farm's.
        """
        if self._folder is None or not self._folder.is_known() or self._folder.is_marker(key):
            return
        if self._holds(self._folder, action, key):
            raise self.error(action, key, _AWAY, transient=True)

    def check_folder(self, action: str, key: str) -> None:
        """
        Raises:
            StoreError: the folder is not the farm's, or it cannot be read.
            Unavailable: it cannot be told which folder is the farm's.
        """
        if self._folder is not None and self._folder.is_known():
            self._holds(self._folder, action, key)

    def check_written(self, key: str) -> None:
        """Flush an object to a folder's disk, and check that it is there: its share may have been away.

        Raises:
            StoreError: it is not in the farm's folder, or not on the disk.
        """
        if self._folder is None:
            return
        self._folder.sync(key)
        if not self._holds(self._folder, "write", key):
            raise self.error("write", key, _AWAY, transient=True)

    def error(
        self,
        action: str,
        key: str,
        why: str,
        *,
        transient: bool = False,
        mendable: bool = False,
        missing: bool = False,
    ) -> StoreError:
        """The error for an action that failed; its `reason` does not say where the store is."""
        return StoreError(
            f"cannot {action} {key} in {self._url}: {why}",
            transient=transient,
            mendable=mendable,
            missing=missing,
            reason=f"the store cannot {action} {key}: {why}",
        )

    def _holds(self, folder: StoreFolder, action: str, key: str) -> bool:
        """Whether the farm's folder contains the object.

        Raises:
            StoreError: another folder is there, or it cannot be read.
        """
        try:
            return folder.holds(key)
        except FolderAway as error:
            raise self.error(action, key, _AWAY, transient=True) from error
        except OSError as error:
            raise self.error(action, key, why(error), transient=is_transient(error)) from error

    @contextmanager
    def _marker_errors(self, action: str, key: str) -> Iterator[None]:
        """A context in which errors from reading the marker's text become the store's."""
        try:
            yield
        except Unavailable as error:
            reason = f"whose folder it is cannot be told: {error.reason}"
            raise self.error(action, key, reason, transient=True) from error
