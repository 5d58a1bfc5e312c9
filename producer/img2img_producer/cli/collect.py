"""Brings a job's results into a folder, as they finish."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from img2img_producer.cli.terminal import job_facts
from img2img_producer.client import Farm
from img2img_producer.outputs import writable_folder
from img2img_producer.progress_display import ProgressDisplay
from img2img_producer.results import Result
from img2img_shared.command_line import messages, say
from img2img_shared.errors import one_line
from img2img_shared.farm.patience import await_result
from img2img_shared.records import JobStatus

#: downloads at a time
AT_ONCE = 8
#: seconds on Ctrl-C for files that are being written; a store that hangs gets no more
PARTING = 3.0
#: failures that are told in full; --json has all
TOLD = 20


@dataclass(kw_only=True)
class Collection:
    """What became of a job's images, as far as they ended."""

    status: JobStatus
    out: Path
    #: by index: the file of those that are saved
    files: dict[int, Path] = field(default_factory=dict)
    #: by index: those that failed
    failures: dict[int, Result] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every image of the job is done and saved."""
        return len(self.files) == self.status.n

    def facts(self) -> dict[str, Any]:
        """In JSON's types."""
        images: list[dict[str, Any]] = [
            {"index": index, "state": "done", "file": str(path), "reason": None}
            for index, path in self.files.items()
        ]
        images += [
            {
                "index": index,
                "state": "failed",
                "file": None,
                "reason": result.reason,
                "name": result.name,
                "path": result.path,
            }
            for index, result in self.failures.items()
        ]
        images.sort(key=lambda image: int(image["index"]))
        return {"job": self.status.id, "out": str(self.out), **job_facts(self.status), "images": images}

    def tell(self) -> None:
        """For people: how many are where, and which failed and why."""
        for result in list(self.failures.values())[:TOLD]:
            say(f"failed: {one_line(result.path or result.name)}: {result.reason}")
        if len(self.failures) > TOLD:
            say(f"... and {len(self.failures) - TOLD} more")
        status = self.status
        others = {name: getattr(status, name) for name in ("pending", "running", "cancelled")}
        counts = {"failed": len(self.failures), **others}
        rest = "".join(f", {count} {name}" for name, count in counts.items() if count)
        say(f"{len(self.files)} of {status.n} images in {self.out}{rest}")


def collect(farm: Farm, job_id: str, out: Path, *, wait: bool, overwrite: bool) -> Collection:
    """Save the results of a job in `out`: those that are there, or (`wait`) all until the job has ended.

    Args:
        overwrite: over other files that lie there, but never over an input of the job.

    Raises:
        NotFound: there is no such job.
        Refused: `out` cannot be written to, or another file lies where a result should go.
        FarmError: a result cannot be read or written.
    """
    collection = Collection(status=farm.status(job_id), out=out)
    writable_folder(out)
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="download")
    under_way: deque[tuple[Result, Future[Path]]] = deque()
    with ProgressDisplay(messages()) as board:
        try:
            for result in farm.results(job_id, wait=wait, progress=board.update):
                if result.reason is not None:
                    collection.failures[result.index] = result
                    continue
                collection.failures.pop(result.index, None)  # it was retried meanwhile
                under_way.append((result, pool.submit(result.save, out, overwrite=overwrite)))
                while under_way and (len(under_way) > 2 * AT_ONCE or under_way[0][1].done()):
                    _settle(collection, *under_way.popleft())
            while under_way:
                _settle(collection, *under_way.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            wait_for([saved for _, saved in under_way], timeout=PARTING)  # on Ctrl-C there are some
        collection.status = farm.status(job_id)
    return collection


def _settle(collection: Collection, result: Result, saved: Future[Path]) -> None:
    collection.files[result.index] = await_result(saved)
