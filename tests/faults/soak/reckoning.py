"""Compares every image's outcome with what the clients know, and with the same image rendered alone."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from img2img_shared.errors import StoreError
from img2img_shared.job import ImageState, JobState
from img2img_shared.records import JobStatus
from tests.eventually import eventually
from tests.faults.farm import FaultyFarm
from tests.faults.soak.alone import Alone, Outcome, pixels
from tests.faults.soak.clients import Account, Acknowledged
from tests.faults.soak.recipes import Recipe

#: the errors with which an image or a call may fail: those of the injected faults
INJECTED = (
    *("workers died", "out of memory", "drawn by chance", "out of files", "Errno 24"),
    *("os error 20", "Not a directory"),
)
#: its indentation, and the line at its end, which says what was raised
TRACEBACK = re.compile(r"^( *)Traceback [^\n]*\n(?:\1 [^\n]*\n)*\1(\w[^\n]*)", re.MULTILINE)
#: seconds until all jobs have ended
PATIENCE = 900


class Reckoning:
    """The account of everything that was acknowledged, made once all is quiet."""

    def __init__(self, farm: FaultyFarm, account: Account, cancelled: set[str]) -> None:
        self._farm = farm
        self._account = account
        self._cancelled = cancelled
        self.counts: Counter[str] = Counter()
        #: findings, in words
        self.wrong: list[str] = [*account.errors]

    def await_end(self) -> None:
        """Until every acknowledged job has ended."""
        for known in self._account.acknowledged:
            eventually(f"job {known.job} ends", lambda known=known: self._ended(known.job), PATIENCE)  # type: ignore[misc]

    def wanted(self) -> Iterator[tuple[Recipe, bytes]]:
        """All images that are to be rendered alone."""
        for known in self._account.acknowledged:
            yield from ((known.recipe, image) for image in known.inputs)
        yield from ((answered.recipe, answered.input) for answered in self._account.answered)

    def settle(self, alone: Alone) -> None:
        """Compare everything."""
        for known in self._account.acknowledged:
            self._settle_job(known, alone)
        for answered in self._account.answered:
            self.counts["pictures in answers"] += 1
            if pixels(answered.picture) != alone.outcome(answered.recipe, answered.input):
                self.wrong.append(f"an answer's picture is not the one alone: {answered.recipe}")
        for failure in self._account.failures:
            self.counts["calls that failed of a fault"] += 1
            self._excuse(failure)
        self._look_for_more_jobs()
        self._read_logs()

    def _settle_job(self, known: Acknowledged, alone: Alone) -> None:
        status = self._farm.status(known.job)
        self.counts["images"] += status.n
        if status.n != len(known.inputs):
            self.wrong.append(
                f"job {known.job} has {status.n} images, and {len(known.inputs)} were submitted"
            )
            return
        pictures, reasons = self._pictures(known.job), self._farm.reasons(known.job)
        for index, image in enumerate(self._farm.images(known.job)):
            self.counts[str(image.state)] += 1
            expected = alone.outcome(known.recipe, known.inputs[index])
            where = f"image {index} of job {known.job}"
            if image.state is ImageState.CANCELLED:
                if known.job not in self._cancelled:
                    self.wrong.append(f"{where} is cancelled, which nobody asked for")
            elif image.state is ImageState.FAILED:
                if reasons[index] != expected:
                    self._excuse(f"{where}: {reasons[index]}")
            elif image.state is not ImageState.DONE or index not in pictures:
                self.wrong.append(f"{where} is lost: {image.state}")
            elif pictures[index] != expected:
                self.wrong.append(f"{where} is not the picture that it is alone: {known.recipe}")
        for index, count in enumerate(self._farm.finishes(known.job)):
            if count > 1:
                self.wrong.append(f"image {index} of job {known.job} was finished {count} times")

    def _pictures(self, job: str) -> dict[int, Outcome]:
        """Pictures of the images that are done, if the store has them."""
        found = {}
        for result in self._farm.producer.results(job, wait=False):
            if result.reason is None:
                with suppress(StoreError):
                    found[result.index] = pixels(result.read())
        return found

    def _excuse(self, what: str) -> None:
        if not any(fault in what for fault in INJECTED):
            self.wrong.append(f"failed for no injected reason: {what}")

    def _look_for_more_jobs(self) -> None:
        """Compare the farm's jobs with those that were acknowledged: none is lost, none exists twice."""
        known = {each.job for each in self._account.acknowledged}
        there = {status.id for status in self._farm.producer.jobs(limit=10 * len(known) + 1000)}
        self.wrong += [f"job {job} was acknowledged, and is gone" for job in sorted(known - there)]
        self.wrong += [f"job {job} is there, and nobody was told" for job in sorted(there - known)]

    def _read_logs(self) -> None:
        """Find unexpected errors in the programs' logs."""
        for log in sorted(Path(self._farm.folder).glob("*.log")):
            for _, found in TRACEBACK.findall(log.read_text(errors="replace")):
                self._excuse(f"{log.name}: {found[:300]}")

    def _ended(self, job: str) -> JobStatus | None:
        status = self._farm.status(job)
        if status.state is JobState.PAUSED:
            self._farm.producer.resume(job)
        return status if status.finished else None
