"""A tenant's jobs, looked through for those that somebody means."""

from collections.abc import Collection, Iterator

from img2img_shared.job import JobState
from img2img_shared.ledger import Ledger
from img2img_shared.records import JobStatus


def find_jobs(
    ledger: Ledger, tenant: str, search: str | None, states: Collection[JobState], model: str | None
) -> Iterator[JobStatus]:
    """Those that fit, newest first; the ledger is asked for more as they are.

    Args:
        search: in their names or ids, in any case; None: anything.
        states: one of these; none: any.
        model: None: any.
    """
    wanted = (search or "").casefold()
    after: str | None = ""
    while after is not None:
        page = ledger.page_of_jobs(tenant, after)
        after = page.next
        for job in page.jobs:
            is_called = wanted in (job.name or "").casefold() or wanted in job.id
            if is_called and (not states or job.state in states) and model in (None, job.model):
                yield job
