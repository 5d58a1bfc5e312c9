"""A store's folder, distinguished from the empty one that an unmounted share leaves behind."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class FolderAway(Exception):
    """The farm's folder has been replaced by another one, or is missing."""


class StoreFolder:
    """The folder of one store, and whether it is the farm's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marker = ""
        self._marker_text: Callable[[], str | None] = lambda: None

    def expect(self, marker: str, text: Callable[[], str | None]) -> None:
        """From now on, recognise the farm's folder by its object `marker`, which contains `text`.

        Args:
            text: returns the marker's content, or None while nobody has written it; called until it is known.
        """
        self._marker, self._marker_text = marker, text

    def is_known(self) -> bool:
        """Whether it is known how to recognise the farm's folder.

        Raises:
            Unavailable: the marker's text cannot be determined.
        """
        return self._known_text() is not None

    def is_marker(self, key: str) -> bool:
        """Whether that is the key of the marker."""
        return key == self._marker

    def holds(self, key: str) -> bool:
        """Whether the farm's folder contains the object. The marker is read from the same open folder.

        Raises:
            FolderAway: the farm's folder is not there.
            OSError: the folder cannot be read.
            Unavailable: the marker's text cannot be determined.
        """
        text = self._known_text()
        try:
            folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                is_farms = text is None or _text(self._marker, folder) == text
                found = _is_there(key, folder)
            finally:
                os.close(folder)
        except (FileNotFoundError, NotADirectoryError):
            is_farms = False
        if not is_farms:
            raise FolderAway
        return found

    def sync(self, key: str) -> None:
        """Flush a written file to the disk, since the ledger is about to say that it is there.

        Its folder is not synced, which would cost as much again: ext4, XFS and Btrfs write a new file's name
        with it.
        """
        handle = os.open(self._path / key, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def touch(self, key: str) -> None:
        """Set a file's time of writing to now."""
        os.utime(self._path / key)

    def remove_empty(self, prefix: str) -> None:
        """Remove the folder `prefix` and its subfolders, if they are empty."""
        for folder, _, _ in os.walk(self._path / prefix, topdown=False):
            with suppress(OSError):  # somebody has put something there
                Path(folder).rmdir()

    def _known_text(self) -> str | None:
        text = self._marker_text()
        if text is not None:
            self._marker_text = lambda: text
        return text


def _text(path: str, folder: int) -> str | None:
    """The text of a small file in an open folder; None if it does not exist."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY, dir_fd=folder), errors="replace") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def _is_there(path: str, folder: int) -> bool:
    try:
        os.stat(path, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
