"""Jobs whose images were refused just now for want of a file: the next ones need not be begun to know it."""

import time
from collections.abc import Callable

from img2img_shared.errors import Refused
from img2img_worker.farm.verdict import is_of_own_files

#: seconds for which it holds: then the file may be there
HOLDS = 5.0
#: jobs that are remembered
_JOBS = 256


class RecentRefusals:
    """Those of one worker; thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_job: dict[str, tuple[Refused, float]] = {}

    def note(self, job_id: str, error: Exception) -> None:
        """An image ended so that has no parameters of its own."""
        if not (isinstance(error, Refused) and is_of_own_files(error)) or self._find(job_id) is not None:
            return
        self._by_job = dict([*self._by_job.items()][-_JOBS:]) | {job_id: (error, self._clock() + HOLDS)}

    def check(self, job_id: str) -> None:
        """Refuse an image that has no parameters of its own as those before it.

        Raises:
            Refused: that was.
        """
        if (error := self._find(job_id)) is not None:
            raise Refused(error.field, error.value, error.reason)

    def _find(self, job_id: str) -> Refused | None:
        error, until = self._by_job.get(job_id, (None, 0.0))
        return error if self._clock() < until else None
