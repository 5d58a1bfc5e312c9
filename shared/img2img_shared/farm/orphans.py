"""Jobs of which only the store has something: they were forgotten, or lost with a ledger."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Self

from img2img_shared.farm.job_folder import JobFolder, job_folders
from img2img_shared.ledger.retention import SHARE, Retention
from img2img_shared.store import Store


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """A job of which only the store has something."""

    id: str
    #: results that lie there
    pictures: int
    #: of all that lies there
    bytes: int

    @classmethod
    def of(cls, folder: JobFolder) -> Self:
        """The orphan whose folder that is."""
        return cls(id=folder.job_id, pictures=folder.pictures, bytes=folder.bytes)


def find_orphans(store: Store, retention: Retention) -> Iterator[Orphan]:
    """Each orphan in the store. Nothing is removed: somebody may want these pictures.

    Raises:
        StoreError: the store cannot be listed.
        Unavailable: Redis does not answer.
    """
    folders = job_folders(store)
    while share := list(islice(folders, SHARE)):
        standings = retention.standings([each.job_id for each in share])
        for folder, standing in zip(share, standings, strict=True):
            if standing.is_unknown:
                yield Orphan.of(folder)
