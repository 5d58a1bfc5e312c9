"""The state of a farm's jobs and images, for whoever submitted them."""

from collections.abc import Iterator
from dataclasses import replace

from img2img_shared.farm.connection import FarmConnection
from img2img_shared.farm.job_filter import JobFilter, find_jobs, page_of_found
from img2img_shared.farm.originals import with_names
from img2img_shared.farm.waiting import is_idle, waits_for
from img2img_shared.job import Job
from img2img_shared.ledger import IMAGES
from img2img_shared.records import ImageStatus, JobPage, JobStatus

#: running images of a job whose steps are looked at
MOST_WATCHED = 200


class JobLookup(FarmConnection):
    """Jobs, looked up by their ids."""

    def find(self, tenant: str, wanted: JobFilter) -> Iterator[JobStatus]:
        """Like `find_jobs`."""
        return find_jobs(self.ledger, tenant, wanted)

    def page_of_jobs(self, tenant: str, wanted: JobFilter, after: str, limit: int) -> JobPage:
        """Like `page_of_found`."""
        return page_of_found(self.ledger, tenant, wanted, after, limit)

    def status(self, job_id: str, tenant: str) -> JobStatus:
        """The state of a job, and what it waits for if none of its images can be started.

        Raises:
            NotFound: the tenant has no such job.
        """
        status = self.ledger.status(job_id, tenant)
        if not is_idle(status) or (self._embedded and self._embedded.has_worker(status.model)):
            return status  # or its worker is only just being loaded
        workers, deaths = self.workers(), 0
        if not any(worker.info.model == status.model for worker in workers):
            deaths = self.ledger.deaths(status.model)
        return replace(status, waits_for=waits_for(status, workers, deaths))

    def watched(self, job_id: str, tenant: str) -> JobStatus:
        """Like `status`, with the progress of running images, which their workers report for some seconds
        from now on.

        Raises:
            NotFound: the tenant has no such job.
        """
        status = self.status(job_id, tenant)
        if not status.running:
            return status
        found = self.previews.steps(job_id, tenant, self.ledger.running(job_id)[:MOST_WATCHED])
        if not found:
            return status
        done, total = (sum(counts) for counts in zip(*found, strict=True))
        under_way = sum(each / of for each, of in found if of)
        return replace(status, steps=(done, total), under_way=under_way)

    def images(self, job: Job, wanted: range | None = None) -> Iterator[ImageStatus]:
        """The images of a job by their indexes (None: all), fetched as they are needed, without their inputs'
        names.
        """
        indexes = range(job.n) if wanted is None else wanted
        for start in range(indexes.start, indexes.stop, IMAGES):
            yield from self.ledger.images(job.id, job.tenant, start, min(IMAGES, indexes.stop - start))

    def named_images(self, job: Job, wanted: range | None = None) -> Iterator[ImageStatus]:
        """Like `images`, with their inputs' names and paths, if the store still has them."""
        return with_names(self.store, job, self.images(job, wanted))
