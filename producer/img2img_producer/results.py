"""The images of a job as they end, done or failed."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from img2img_producer.backends.backend import Backend
from img2img_producer.outputs import save
from img2img_shared.errors import StoreError
from img2img_shared.farm.patience import patiently
from img2img_shared.job import ImageState, Job, JobState, result_key
from img2img_shared.ledger import IMAGES
from img2img_shared.records import ImageStatus

#: seconds to wait for news at a time; between two waits the farm's processes are looked after
TICK = 1.0
#: seconds in which news may gather: a call for each of hundreds of images a second costs, a moment does not
GATHER = 0.05


@dataclass(frozen=True, kw_only=True)
class Result:
    """An image of a job that has ended.

    >>> for result in farm.results(job):  # doctest: +SKIP
    ...     if result.reason is None:
    ...         result.save("out")
    ...     else:
    ...         print(result.name, "failed:", result.reason)
    """

    #: of the image within its job
    index: int
    #: index of the input it was made from
    input: int
    #: file name: the input's stem, with -2, -3, ... for further outputs
    name: str
    #: where the input was read from; None: it is not known
    path: str | None
    #: of the picture in the store
    key: str
    #: why it failed; None: it is done
    reason: str | None
    _picture: Callable[[], bytes] = field(repr=False, compare=False)
    _digests: frozenset[str] = field(repr=False, compare=False)

    def read(self) -> bytes:
        """The encoded picture.

        Raises:
            StoreError: it failed, or cannot be read.
        """
        if self.reason is not None:
            raise StoreError(f"{self.name} failed: {self.reason}", transient=False)
        return self._picture()

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the picture into `folder` under its `name`, unless it is there already; returns the path.

        Args:
            overwrite: whether to overwrite another file; inputs of the job are never overwritten.

        Raises:
            StoreError: it failed, or cannot be read.
            Refused: another file is there.
            FarmError: it cannot be written.
        """
        path = Path(folder) / self.name
        save(self.read(), path, self._digests, overwrite=overwrite)
        return path


class Results:
    """Follows a job image by image: a scan, then the event stream, and a scan again if that had a gap."""

    def __init__(self, backend: Backend, job: Job) -> None:
        self._backend = backend
        self._job = job
        self._originals = backend.originals(job)
        #: what was told of each image: 0 nothing yet, else _DONE or _FAILED
        self._told = bytearray(job.n)

    def now(self) -> Iterator[Result]:
        """The images that have ended and were not returned before."""
        for start in range(0, self._job.n, IMAGES):
            if self._told.count(_DONE, start, start + IMAGES) < min(IMAGES, self._job.n - start):
                for image in patiently(partial(self._images, start)):
                    yield from self._tell(image.index, image.state, image.reason)

    def follow(self, tick: Callable[[], None]) -> Iterator[Result]:
        """Each image as it ends, until the job has ended. `tick` is called after each wait, once a second."""
        with self._backend.feed(self._job.id) as feed:
            yield from self.now()
            ended = False
            while not ended:
                status = patiently(lambda: self._backend.status(self._job.id))
                ended = status.finished is not None
                events = [] if ended else feed.next(TICK)
                for event in events:
                    if event.index is not None:
                        yield from self._tell(event.index, ImageState(event.state), event.reason)
                tick()
                if not events and self._counts() != (status.done, status.failed):
                    yield from self.now()
                if events and events[-1].job_state is not JobState.DONE:
                    time.sleep(GATHER)

    def _counts(self) -> tuple[int, int]:
        return self._told.count(_DONE), self._told.count(_FAILED)

    def _images(self, start: int) -> list[ImageStatus]:
        return self._backend.images(self._job, start)

    def _tell(self, index: int, state: ImageState, reason: str | None) -> Iterator[Result]:
        code = {ImageState.DONE: _DONE, ImageState.FAILED: _FAILED}.get(state, 0)
        news = code and self._told[index] != code
        self._told[index] = code  # 0 again for one that failed and is retried
        if news:
            yield Result(
                index=index,
                input=self._job.output(index)[0],
                name=self._originals.names[index],
                path=self._originals.paths[self._job.output(index)[0]],
                key=result_key(self._job.id, index, self._job.params.output_format),
                reason=(reason or "no reason was given") if code == _FAILED else None,
                _picture=partial(self._backend.picture, self._job, index),
                _digests=self._originals.digests,
            )


_DONE, _FAILED = 1, 2
