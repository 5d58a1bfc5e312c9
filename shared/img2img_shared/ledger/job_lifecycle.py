"""The part of the ledger that changes what is to become of jobs."""

from img2img_shared.errors import Refused
from img2img_shared.ledger.job_records import JobRecords


class JobControl(JobRecords):
    """What is done to jobs; who does it is noted in the audit, by the name that is given as `by`."""

    def cancel(self, job_id: str, tenant: str, by: str = "") -> int:
        """Ends a job: nothing of it is given out any more, and workers stop its images between two steps.

        Gives the number of images that are thereby not rendered; 0 for a job that had ended.

        Raises:
            NotFound: the tenant has no such job.
        """
        return self._control(job_id, tenant, "cancel", by=by)

    def interrupt(self, job_id: str, tenant: str, by: str = "") -> int:
        """As `cancel`, but images that a worker has end early and are done, as far as they are by then.

        Gives the number of images that are thereby not rendered; 0 for a job that had ended.

        Raises:
            NotFound: the tenant has no such job.
        """
        return self._control(job_id, tenant, "interrupt", by=by)

    def pause(self, job_id: str, tenant: str, by: str = "") -> bool:
        """Gives out no image of the job until `resume`; running ones go on. Says whether anything changed.

        Raises:
            NotFound: the tenant has no such job.
            Refused: the job was cancelled.
        """
        return bool(self._control(job_id, tenant, "pause", by=by))

    def resume(self, job_id: str, tenant: str, by: str = "") -> bool:
        """Undoes `pause`; same answers."""
        return bool(self._control(job_id, tenant, "resume", by=by))

    def set_priority(self, job_id: str, tenant: str, priority: int, by: str = "") -> bool:
        """Changes what goes first, from the next claim on; same answers as `pause`.

        Raises:
            Refused: outside -100..100.
        """
        if not -100 <= priority <= 100:
            raise Refused("priority", priority, "give a whole number from -100 to 100; higher goes first")
        return bool(self._control(job_id, tenant, "priority", priority, by=by))

    def retry(self, job_id: str, tenant: str, by: str = "") -> int:
        """Gives every failed image of the job another chance and says how many these are.

        Raises:
            NotFound: the tenant has no such job.
            Refused: the job was cancelled.
        """
        failed = self.status(job_id, tenant).failed
        retried = 0
        # in shares, and not those that fail again meanwhile
        while (share := self._control(job_id, tenant, "retry", by=by)) and retried + share < failed:
            retried += share
        return retried + share

    def remove(self, job_id: str, tenant: str, by: str = "") -> None:
        """Forgets a job that has ended. What the store has of it is the caller's to remove, right after.

        Raises:
            NotFound: the tenant has no such job.
            Refused: the job has not ended.
        """
        if not self._found(job_id, self._redis.run("remove", tenant, job_id, by)):
            raise Refused("job", job_id, "this job has not ended; cancel it first")

    def set_keep(self, job_id: str, tenant: str, keep: float | None, by: str = "") -> None:
        """Keep a job's results so many seconds after its end; None: for ever.

        Raises:
            NotFound: the tenant has no such job.
        """
        self._control(job_id, tenant, "keep", "" if keep is None else round(1000 * keep), by=by)

    def _control(self, job_id: str, tenant: str, verb: str, value: int | str = 0, by: str = "") -> int:
        answer = self._found(job_id, self._redis.run("control", tenant, job_id, verb, value, by))
        if answer == b"cancelled":
            raise Refused("job", job_id, "this job was cancelled; submit it again")
        return int(answer)
