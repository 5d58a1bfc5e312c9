"""The audit: a line for each change that somebody made to a job, a worker's orders, or an API key."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from img2img_shared.ledger.connect import FarmRedis
from img2img_shared.records import moment

#: lines that are kept, about; and that one call gives
LINES, SHARE = 10_000, 500


@dataclass(frozen=True, kw_only=True)
class AuditLine:
    """One line of the audit."""

    at: datetime
    #: the owner of a key, the user of a password, or a login
    by: str
    #: whose job or key it was; "": a worker is nobody's
    tenant: str
    #: cancel, interrupt, pause, resume, retry, priority, keep, remove; disable, drain, enable; create-key,
    #: revoke-key
    action: str
    #: the id of the job, worker or key
    subject: str
    #: what it was changed to
    detail: str


class Audit:
    """The audit of one farm. Methods raise `Unavailable` when Redis does not answer."""

    def __init__(self, redis: FarmRedis) -> None:
        self._call = redis.call
        self._key = redis.key("audit")

    def write(self, *, by: str, tenant: str, action: str, subject: str, detail: str = "") -> None:
        """Add a line with the current time. The ledger itself writes those for jobs and workers."""
        fields = ("by", by, "tenant", tenant, "action", action, "subject", subject, "detail", detail)
        self._call("XADD", self._key, "MAXLEN", "~", LINES, "*", *fields)

    def lines(self, *, tenant: str | None = None, subject: str | None = None) -> Iterator[AuditLine]:
        """All lines, newest first.

        Args:
            tenant: only lines on its jobs and keys; None: lines on all tenants, and on workers.
            subject: only lines on this job, worker or key.
        """
        end = "+"
        while found := self._call("XREVRANGE", self._key, end, "-", "COUNT", SHARE):
            for line_id, fields in found:
                line = _line(line_id, fields)
                if tenant in (None, line.tenant) and subject in (None, line.subject):
                    yield line
            end = f"({str(found[-1][0], 'utf-8')}"


def _line(line_id: bytes, fields: Any) -> AuditLine:
    text = {str(name, "utf-8"): str(value, "utf-8", "replace") for name, value in fields.items()}
    return AuditLine(at=moment(line_id.partition(b"-")[0]), **text)
