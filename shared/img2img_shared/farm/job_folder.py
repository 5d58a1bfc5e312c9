"""What lies in the store of each job."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Self

from img2img_shared.job import inputs_folder
from img2img_shared.store import Store, StoredObject


@dataclass
class JobFolder:
    """Of one job."""

    job_id: str
    #: results
    pictures: int = 0
    #: of all that lies there
    bytes: int = 0
    #: keys of pages of inputs
    pages: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, job_id: str, objects: Iterable[StoredObject]) -> Self:
        """Added up."""
        folder = cls(job_id)
        for each in objects:
            folder.bytes += each.size
            if each.key.startswith(inputs_folder(job_id)):
                folder.pages.append(each.key)
            else:
                folder.pictures += 1
        return folder


def job_folders(store: Store) -> Iterator[JobFolder]:
    """Those of all jobs, looked up as it goes.

    Raises:
        StoreError: the store does not tell.
    """
    for job_id, objects in groupby(store.objects("jobs"), key=lambda each: each.key.split("/")[1]):
        yield JobFolder.of(job_id, objects)
