"""Which jobs somebody means, of those that a tenant has."""

from collections.abc import Iterator
from dataclasses import dataclass

from img2img_shared.job import JobState
from img2img_shared.ledger import Ledger
from img2img_shared.records import JobPage, JobStatus

#: jobs that the ledger is asked for at a time, and that are looked through for one page
SHARE, LOOKED_THROUGH = 100, 2000


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """What a job must be like; what is None, or empty, does not matter."""

    #: in its name or id, in any case
    search: str | None = None
    #: one of these
    states: tuple[JobState, ...] = ()
    model: str | None = None
    owner: str | None = None
    #: all of these
    tags: tuple[str, ...] = ()

    def fits(self, job: JobStatus) -> bool:
        """Whether `job` is like that."""
        wanted = (self.search or "").casefold()
        return (
            (wanted in (job.name or "").casefold() or wanted in job.id)
            and (not self.states or job.state in self.states)
            and self.model in (None, job.model)
            and self.owner in (None, job.owner)
            and {*self.tags} <= {*job.tags}
        )


def find_jobs(ledger: Ledger, tenant: str, wanted: JobFilter) -> Iterator[JobStatus]:
    """The tenant's jobs that fit, newest first; the ledger is asked for more as they are."""
    after: str | None = ""
    while after is not None:
        page = ledger.page_of_jobs(tenant, after, SHARE)
        after = page.next
        yield from filter(wanted.fits, page.jobs)


def page_of_found(ledger: Ledger, tenant: str, wanted: JobFilter, after: str, limit: int) -> JobPage:
    """Some of the jobs that fit, newest first: at most `limit`, from where another page ended on.

    It may have fewer, or none, and still have a `next`: a page looks through so many jobs, and no more.

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
