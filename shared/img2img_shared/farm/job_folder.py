"""What the store has of each job."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Self

from img2img_shared.job import inputs_folder
from img2img_shared.store import Store, StoredObject


@dataclass
class JobFolder:
    """The folder of one job."""

    job_id: str
    #: results
    pictures: int = 0
    #: of all that lies there
    bytes: int = 0
    #: keys of pages of inputs
    pages: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, job_id: str, objects: Iterable[StoredObject]) -> Self:
        """The folder of a job, with its objects added up."""
        folder = cls(job_id)
        for each in objects:
            folder.bytes += each.size
            if each.key.startswith(inputs_folder(job_id)):
                folder.pages.append(each.key)
            else:
                folder.pictures += 1
        return folder


def job_folders(store: Store) -> Iterator[JobFolder]:
    """The folders of all jobs, listed as they are needed.

    Raises:
        StoreError: the store cannot be listed.
    """
    for job_id, objects in groupby(store.objects("jobs"), key=lambda each: each.key.split("/")[1]):
        yield JobFolder.of(job_id, objects)
