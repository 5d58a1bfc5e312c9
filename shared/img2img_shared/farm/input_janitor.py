"""Removes the pages of inputs that were written for jobs which were never submitted.

The proof is the ledger's: a submission is noted there before its first page, and the call that writes the job
strikes it out. So nothing is looked for in the store: what another farm keeps there, or what a ledger that
was lost had named, is never touched.
"""

import logging

from img2img_shared.farm.intake import AGE
from img2img_shared.job import inputs_folder
from img2img_shared.ledger.submissions import Submissions
from img2img_shared.store import Store

log = logging.getLogger(__name__)

#: seconds in which whoever found some must have removed them
TURN = 600.0


class InputJanitor:
    """Works in rounds in each gateway and worker; they share the work by asking the ledger for it."""

    def __init__(self, submissions: Submissions, store: Store, age: float = AGE) -> None:
        self._submissions = submissions
        self._store = store
        self._age = age

    def round(self) -> int:
        """Remove the pages of abandoned submissions; returns how many jobs these were.

        Raises:
            Unavailable: Redis does not answer.
            StoreError: the store failed; the next round continues.
        """
        count = 0
        while found := self._submissions.abandoned(self._age, TURN):
            for job_id in found:
                remove_pages(self._store, job_id)
                self._submissions.forget([job_id])
            count += len(found)
        if count:
            log.info("removed the inputs of %d submissions that made no job", count)
        return count


def remove_pages(store: Store, job_id: str) -> None:
    """Remove the pages of inputs of one job.

    Raises:
        StoreError: the store failed.
    """
    for key in list(store.list(inputs_folder(job_id))):
        store.delete(key)
