"""What the store keeps of jobs that the ledger does not know: they were forgotten, or lost with a ledger."""

from collections.abc import Iterator
from dataclasses import dataclass

from img2img_shared.job import inputs_folder
from img2img_shared.ledger import Ledger
from img2img_shared.store import Store


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """A job of which only the store has something."""

    id: str
    #: results that lie there
    pictures: int


def find_orphans(store: Store, ledger: Ledger) -> Iterator[Orphan]:
    """Each such job. Nothing is removed: these may be pictures that somebody wants.

    Raises:
        StoreError: the store does not tell.
        Unavailable: Redis does not answer.
    """
    for job_id in store.folders("jobs"):
        if not ledger.knows(job_id):
            keys = store.list(f"jobs/{job_id}")
            pictures = sum(not key.startswith(inputs_folder(job_id)) for key in keys)
            yield Orphan(id=job_id, pictures=pictures)
