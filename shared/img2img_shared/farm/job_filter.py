"""Selects jobs of a tenant."""

from collections.abc import Iterator
from dataclasses import dataclass

from img2img_shared.job import JobState
from img2img_shared.ledger import Ledger
from img2img_shared.records import JobPage, JobStatus

#: jobs that the ledger is asked for at a time, and that are looked through for one page
SHARE, LOOKED_THROUGH = 100, 2000


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Criteria for jobs; those that are None, or empty, do not apply."""

    #: in its name or id, in any case
    search: str | None = None
    #: one of these
    states: tuple[JobState, ...] = ()
    model: str | None = None
    owner: str | None = None
    #: all of these
    tags: tuple[str, ...] = ()

    def fits(self, job: JobStatus) -> bool:
        """Whether `job` meets all of them."""
        wanted = (self.search or "").casefold()
        return (
            (wanted in (job.name or "").casefold() or wanted in job.id)
            and (not self.states or job.state in self.states)
            and self.model in (None, job.model)
            and self.owner in (None, job.owner)
            and {*self.tags} <= {*job.tags}
        )


def find_jobs(ledger: Ledger, tenant: str, wanted: JobFilter) -> Iterator[JobStatus]:
    """The tenant's jobs that fit, newest first; pages are fetched as they are needed."""
    after: str | None = ""
    while after is not None:
        page = ledger.page_of_jobs(tenant, after, SHARE)
        after = page.next
        yield from filter(wanted.fits, page.jobs)


def page_of_found(ledger: Ledger, tenant: str, wanted: JobFilter, after: str, limit: int) -> JobPage:
    """A page of at most `limit` jobs that fit, newest first, continuing where another page ended.

    It may have fewer, or none, and still have a `next`: one page looks at a limited number of jobs.

    Raises:
        Refused: as `Ledger.page_of_jobs`.
    """
    if wanted == JobFilter():
        return ledger.page_of_jobs(tenant, after, limit)
    found: list[JobStatus] = []
    more: str | None = after
    for _ in range(0, LOOKED_THROUGH, SHARE):
        if more is None:
            break
        page = ledger.page_of_jobs(tenant, more, SHARE)
        more = page.next
        for job in filter(wanted.fits, page.jobs):
            if len(found) == limit:
                return JobPage(jobs=found, next=ledger.place_of(found[-1]))
            found.append(job)
    return JobPage(jobs=found, next=more)
