"""The part of the ledger for those who watch all jobs of a tenant."""

from img2img_shared.ledger.part import LedgerPart
from img2img_shared.ledger.replies import job_status
from img2img_shared.records import JobChanges

#: changed jobs that one call gives, and a few more where several changed in the same millisecond
CHANGED = 200


class JobsChanged(LedgerPart):
    """Jobs by the time of their last change, for an hour."""

    def changes(self, tenant: str, after: int = 0) -> JobChanges:
        """The tenant's jobs that have changed after `after`, which is an earlier answer's `until`.

        With 0, no jobs are returned, only where to begin. However often a job has changed, it is listed once.
        """
        until, is_whole, answers = self._redis.run("changes", tenant, after, CHANGED)
        return JobChanges(
            until=until,
            is_whole=bool(is_whole),
            has_more=len(answers) >= CHANGED,
            jobs=[job_status(tenant, found[0]) for _, *found in answers if found],
            gone=[str(job_id, "utf-8") for job_id, *found in answers if not found],
        )
