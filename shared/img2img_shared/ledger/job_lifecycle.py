"""The part of the ledger for changing jobs: cancel, pause, retry, remove."""

import secrets
from typing import Any

from img2img_shared.errors import Refused
from img2img_shared.ledger.job_records import JobRecords


class JobLifecycle(JobRecords):
    """Changes to jobs. Who makes them is noted in the audit, by the name given as `by`.

    A caller that got no answer may repeat the call with the same `once` for ten minutes: it takes effect only
    once, and gets the first answer. "": the call will not be repeated.
    """

    def cancel(self, job_id: str, tenant: str, by: str = "", once: str = "") -> int:
        """End a job: none of its images can be claimed any more, and workers stop between two steps.

        Returns the number of images that will not be rendered; 0 for a job that had ended.

        Raises:
            NotFound: the tenant has no such job.
        """
        return self._control(job_id, tenant, "cancel", by=by, once=once)

    def interrupt(self, job_id: str, tenant: str, by: str = "", once: str = "") -> int:
        """Like `cancel`, but images that a worker has end early and count as done, as far as they are.

        Returns the number of images that will not be rendered; 0 for a job that had ended.

        Raises:
            NotFound: the tenant has no such job.
        """
        return self._control(job_id, tenant, "interrupt", by=by, once=once)

    def pause(self, job_id: str, tenant: str, by: str = "", once: str = "") -> bool:
        """Let no image of the job be claimed until `resume`; returns whether that changed anything.

        Raises:
            NotFound: the tenant has no such job.
            Refused: the job was cancelled.
        """
        return bool(self._control(job_id, tenant, "pause", by=by, once=once))

    def resume(self, job_id: str, tenant: str, by: str = "", once: str = "") -> bool:
        """Undo `pause`; returns whether that changed anything."""
        return bool(self._control(job_id, tenant, "resume", by=by, once=once))

    def set_priority(self, job_id: str, tenant: str, priority: int, by: str = "", once: str = "") -> bool:
        """Change the priority, from the next claim on; returns whether that changed anything.

        Raises:
            Refused: outside -100..100.
        """
        if not -100 <= priority <= 100:
            raise Refused("priority", priority, "give a whole number from -100 to 100; higher goes first")
        return bool(self._control(job_id, tenant, "priority", priority, by=by, once=once))

    def retry(self, job_id: str, tenant: str, by: str = "", once: str = "") -> int:
        """Have every failed image of the job rendered again; returns how many these are.

        Raises:
            NotFound: the tenant has no such job.
            Refused: the job was cancelled.
        """
        once = once or secrets.token_hex(8)
        while True:  # in shares, and not those that fail again meanwhile
            retried, left = self._change(job_id, tenant, "retry", by=by, once=once)
            if not left:
                return int(retried)

    def remove(self, job_id: str, tenant: str, by: str = "", once: str = "") -> None:
        """Forget a job that has ended. The caller must then remove its objects from the store.

        Raises:
            NotFound: the tenant has no such job.
            Refused: the job has not ended, or another is made from its results.
        """
        answer = self._found(job_id, self._redis.run("remove", tenant, job_id, by, once))
        if not answer:
            raise Refused("job", job_id, "this job has not ended; cancel it first")
        if isinstance(answer, bytes):
            whole = str(answer, "utf-8")
            raise Refused("job", job_id, f"it renders tiles of job {whole}, and goes with that")

    def count_removed(self, job_id: str, tenant: str, once: str, count: int) -> int:
        """Add `count` objects removed from the store; returns the total over repeats of this call."""
        return int(self._redis.run("remove", tenant, job_id, "", once, count))

    def set_keep(self, job_id: str, tenant: str, keep: float | None, by: str = "", once: str = "") -> None:
        """Keep a job's results for so many seconds after its end; None: forever.

        Raises:
            NotFound: the tenant has no such job.
        """
        self._control(job_id, tenant, "keep", "" if keep is None else round(1000 * keep), by=by, once=once)

    def _control(
        self, job_id: str, tenant: str, verb: str, value: int | str = 0, *, by: str, once: str
    ) -> int:
        return int(self._change(job_id, tenant, verb, value, by=by, once=once))

    def _change(
        self, job_id: str, tenant: str, verb: str, value: int | str = 0, *, by: str, once: str
    ) -> Any:
        answer = self._found(job_id, self._redis.run("control", tenant, job_id, verb, value, by, once))
        if answer == b"cancelled":
            raise Refused("job", job_id, "this job was cancelled; submit it again")
        return answer
