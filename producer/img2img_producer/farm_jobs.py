"""The client's calls for submitted jobs."""

from collections.abc import Collection, Iterator
from itertools import islice

from img2img_producer.backends.backend import Backend
from img2img_shared.durations import read_duration
from img2img_shared.farm.job_filter import JobFilter
from img2img_shared.job import Job, JobState
from img2img_shared.records import ImageStatus, JobStatus


class FarmJobs:
    """What a `Farm` does with jobs that were submitted, by their ids.

    Every method raises `NotFound` for a job that the tenant does not have, and `Unavailable` where the farm
    does not answer.
    """

    _backend: Backend

    def job(self, job_id: str) -> Job:
        """The job as it was submitted: its parameters, with the seeds that were drawn."""
        return self._backend.job(job_id)

    def status(self, job_id: str) -> JobStatus:
        """A job's counts, times, rate (images a second) and seconds to go; what it waits for, if anything."""
        return self._backend.status(job_id)

    def images(self, job_id: str) -> Iterator[ImageStatus]:
        """The state of every image of a job, by index, with its input's name and path."""
        return self._backend.named_images(self.job(job_id))

    def preview(self, job_id: str, index: int = 0) -> bytes | None:
        """What a running image looks like so far: a JPEG, an eighth of the picture's width and height.

        Returns:
            None where there is no preview: workers make them only for those who look (ask again within ten
            seconds) and not at all with ``IMG2IMG_PREVIEW_SECONDS=0``, and previews are dropped soon after
            their image's end.
        """
        return self._backend.preview(job_id, index)

    def jobs(
        self,
        limit: int = 100,
        *,
        search: str | None = None,
        states: Collection[JobState] = (),
        model: str | None = None,
        owner: str | None = None,
        tags: Collection[str] = (),
    ) -> list[JobStatus]:
        """Your jobs, newest first.

        Args:
            limit: how many at most.
            search: a part of their names or ids; upper and lower case are the same.
            states: only jobs in one of these states; empty: in any.
            model: only jobs of this model.
            owner: only jobs that this person or key submitted.
            tags: only jobs that have all of these tags.
        """
        wanted = JobFilter(search=search, states=tuple(states), model=model, owner=owner, tags=tuple(tags))
        return list(islice(self._backend.find(wanted), limit))

    def cancel(self, job_id: str) -> int:
        """End a job; its running images stop after their current step.

        Returns:
            how many of its images will therefore not be rendered.
        """
        return self._backend.cancel(job_id)

    def pause(self, job_id: str) -> bool:
        """Start no more images of a job until `resume`. Returns whether that changed anything."""
        return self._backend.pause(job_id)

    def resume(self, job_id: str) -> bool:
        """Continue a paused job. Returns whether that changed anything."""
        return self._backend.resume(job_id)

    def retry(self, job_id: str) -> int:
        """Render the failed images of a job again. Returns how many there are."""
        return self._backend.retry(job_id)

    def set_priority(self, job_id: str, priority: int) -> bool:
        """Change a job's priority: -100..100, higher goes first. Returns whether that changed anything."""
        return self._backend.set_priority(job_id, priority)

    def set_keep(self, job_id: str, keep: str | float | None) -> None:
        """Change how long a job's results stay after its end: "30d", "12h", seconds, "forever"."""
        self._backend.set_keep(job_id, read_duration(keep))

    def remove(self, job_id: str) -> int:
        """Remove a job that has ended, and its results with it.

        Returns:
            how many objects were removed from the store.

        Raises:
            Refused: the job has not ended: cancel it first.
        """
        return self._backend.remove(job_id)
