"""The part of the ledger that those ask who watch all jobs of a tenant."""

from img2img_shared.ledger.part import LedgerPart
from img2img_shared.ledger.replies import job_status
from img2img_shared.records import JobChanges

#: changed jobs that one call gives, and a few more where several changed in the same millisecond
CHANGED = 200


class JobsChanged(LedgerPart):
    """Jobs by when something happened to them last, as far as that is an hour ago at most."""

    def changes(self, tenant: str, after: int = 0) -> JobChanges:
        """The tenant's jobs to which something has happened after `after`, an earlier answer's `until`.

        With 0 there are none: it says where to begin. However much happens to a job, it is told once.
        """
        now, until, is_whole, answers = self._redis.run("changes", tenant, after, CHANGED)
        return JobChanges(
            until=until,
            is_whole=bool(is_whole),
            has_more=len(answers) >= CHANGED,
            jobs=[job_status(tenant, now, found[0]) for _, *found in answers if found],
            gone=[str(job_id, "utf-8") for job_id, *found in answers if not found],
        )
