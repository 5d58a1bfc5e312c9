"""The layout of pushed models in the store: objects of one size, and a description.

``models/<sha256>/parts/000000``, ``.../000001``, ... hold the bytes of a model's files in sequence.
``models/<sha256>/about.json`` is written last: without it the model does not exist yet. So an interrupted
upload resumes with the missing part, in any store, however large the file.
"""

import json
import re
from collections.abc import Iterator

from img2img_shared.errors import StoreError
from img2img_shared.pushed_models.pushed_model import PushedModel, read_pushed
from img2img_shared.store import Store

#: where all of them lie
FOLDER = "models"
#: bytes of a part: few requests for a large file, and little to send again
PART = 64 * 1024 * 1024
_ABOUT = "about.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ModelObjects:
    """The pushed models of one store. Methods raise `StoreError`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def sizes(self, sha256: str) -> dict[int, int]:
        """The size in bytes of each part of a file that is there, by its number."""
        found = self._store.objects(f"{FOLDER}/{sha256}/parts")
        names = {each.key.rpartition("/")[2]: each.size for each in found}
        return {int(name): size for name, size in names.items() if name.isdecimal()}

    def put_part(self, sha256: str, number: int, data: bytes) -> None:
        """Write one whole part."""
        self._store.put(_part_key(sha256, number), data)

    def read(self, model: PushedModel, start: int, size: int) -> bytes:
        """Up to `size` bytes from `start` on, of a model's files in sequence, within one part."""
        number, place = divmod(start, model.part)
        end = min(place + size, model.size_of_part(number))
        return self._store.get_range(_part_key(model.sha256, number), place, end)

    def put_about(self, model: PushedModel) -> None:
        """Write the description, when all parts are there; from now on the model exists."""
        self._store.put(_about_key(model.sha256), model.model_dump_json().encode())

    def about(self, sha256: str) -> PushedModel | None:
        """The description of a model; None if it is not there, or not complete yet."""
        try:
            return read_pushed(json.loads(self._store.get(_about_key(sha256))))
        except StoreError as error:
            if error.missing:
                return None
            raise
        except ValueError:
            return None

    def all(self) -> Iterator[PushedModel]:
        """Every complete model. A folder with another kind of name is not the farm's, and is left alone."""
        for sha256 in filter(_SHA256.fullmatch, self._store.folders(FOLDER)):
            if (found := self.about(sha256)) is not None and found.sha256 == sha256:
                yield found

    def remove(self, sha256: str) -> int:
        """Remove a model, its description first; returns the number of objects."""
        self._store.delete(_about_key(sha256))
        return self._store.delete_all(f"{FOLDER}/{sha256}")

    def has_about(self, sha256: str) -> bool:
        """Whether there is a description, written by any version: then the model is complete."""
        return self._store.exists(_about_key(sha256))

    def unfinished(self, before: float) -> list[str]:
        """The SHA-256 of uploads that were not completed, nor continued since `before`.

        Args:
            before: seconds since 1970, by the store's clock.
        """
        written: dict[str, float] = {}
        for each in self._store.objects(FOLDER):
            sha256 = each.key.split("/")[1]
            is_whole = each.key == _about_key(sha256)
            written[sha256] = max(written.get(sha256, 0.0), float("inf") if is_whole else each.written)
        return [name for name, last in written.items() if last < before and _SHA256.fullmatch(name)]


def _part_key(sha256: str, number: int) -> str:
    return f"{FOLDER}/{sha256}/parts/{number:06d}"


def _about_key(sha256: str) -> str:
    return f"{FOLDER}/{sha256}/{_ABOUT}"
