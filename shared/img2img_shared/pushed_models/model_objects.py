"""Where pushed models lie in the store: each in objects of one size, beside what is told of it.

``models/<sha256>/parts/000000``, ``.../000001``, ... hold the bytes of a model's files, one after the other,
and ``models/<sha256>/about.json`` comes last: without it nothing is there yet. So an upload that broke off
goes on with the part that is missing, in any store, however large the file.
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
    """Those of one store. Methods raise `StoreError`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def sizes(self, sha256: str) -> dict[int, int]:
        """Bytes of the parts of a file that are there, by their numbers."""
        found = self._store.objects(f"{FOLDER}/{sha256}/parts")
        names = {each.key.rpartition("/")[2]: each.size for each in found}
        return {int(name): size for name, size in names.items() if name.isdecimal()}

    def put_part(self, sha256: str, number: int, data: bytes) -> None:
        """Write one part whole."""
        self._store.put(_part_key(sha256, number), data)

    def read(self, model: PushedModel, start: int, size: int) -> bytes:
        """Up to `size` bytes of a model's files, as one, from `start` on: those of one part."""
        number, place = divmod(start, model.part)
        end = min(place + size, model.size_of_part(number))
        return self._store.get_range(_part_key(model.sha256, number), place, end)

    def put_about(self, model: PushedModel) -> None:
        """All of its parts are there, and from now on it is."""
        self._store.put(_about_key(model.sha256), model.model_dump_json().encode())

    def about(self, sha256: str) -> PushedModel | None:
        """What is told of a file; None: it is not there, or not whole yet."""
        try:
            return read_pushed(json.loads(self._store.get(_about_key(sha256))))
        except StoreError as error:
            if error.missing:
                return None
            raise
        except ValueError:
            return None

    def all(self) -> Iterator[PushedModel]:
        """Every file that is there. A folder of another name is not ours, but may be somebody's models."""
        for sha256 in filter(_SHA256.fullmatch, self._store.folders(FOLDER)):
            if (found := self.about(sha256)) is not None and found.sha256 == sha256:
                yield found

    def remove(self, sha256: str) -> int:
        """Remove a file, what is told of it first; how many objects these were."""
        self._store.delete(_about_key(sha256))
        return self._store.delete_all(f"{FOLDER}/{sha256}")

    def has_about(self, sha256: str) -> bool:
        """Whether anything is told of a file, by whatever version: then it is whole."""
        return self._store.exists(_about_key(sha256))

    def unfinished(self, before: float) -> list[str]:
        """SHA-256 of what uploads have left that nobody went on with since then.

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
