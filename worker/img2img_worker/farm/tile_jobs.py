"""Has pictures of many tiles rendered as jobs of their own, by any worker."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from img2img_shared.errors import NotFound, Refused, Summary
from img2img_shared.farm.intake import Intake
from img2img_shared.farm.submission import UPLOADS, Submission, Upload
from img2img_shared.job import ImageState, Input, Job, JobState, result_key
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.submissions import Submissions
from img2img_shared.records import Claim, JobStatus
from img2img_shared.store import Store
from img2img_worker.farm.leases import LeasedClaim, Stopped
from img2img_worker.farm.tiles_recipe import Tiles


class TileJobs:
    """The jobs of tiles of one farm.

    The image itself waits without a claim, and can be claimed again when its tiles have ended. So a worker
    that dies loses only the tiles that it had, and waiting occupies no slot. The job's id follows from the
    image's.
    """

    def __init__(
        self, ledger: Ledger, store: Store, submissions: Submissions, prove: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._submissions = submissions
        self._intake = Intake(store, submissions, prove)

    def results(self, held: LeasedClaim, job: Job, item: Input, tiles: Tiles) -> Iterator[bytes] | None:
        """The files of an image's tiles, in order, each read when it is needed.

        None: their job has not ended; `wait` for it.

        Raises:
            Refused: one failed, or they were cancelled.
            Stopped: the claim was lost.
            StoreError: the store failed.
            Unavailable: Redis does not answer.
        """
        claim = held.claim
        try:
            status = self._ledger.status(_id_of(claim), claim.tenant)
        except NotFound:
            self._submit(held, job, item, tiles)
            return None
        if status.finished is None:
            return None
        if status.state is not JobState.DONE:
            raise Refused("tiles", Summary(f"job {status.id}"), self._trouble(status))
        return (self._store.get(result_key(status.id, index, "png")) for index in range(status.n))

    def wait(self, claim: Claim) -> ImageState | None:
        """Give the image back until its tiles have ended."""
        return self._ledger.wait_for(claim, _id_of(claim))

    def finish(self, claim: Claim) -> bool:
        """Like the ledger's, for an image that was made from its tiles.

        The tiles' job is forgotten with this report, unless it has no effect: then another attempt has the
        image and needs the tiles. The janitor removes their objects from the store.
        """
        return self._ledger.finish(claim, tiles=_id_of(claim))

    def _submit(self, held: LeasedClaim, job: Job, item: Input, tiles: Tiles) -> None:
        """Submit a job of an image's tiles; repeating it has no effect."""
        claim = held.claim
        parts = Job(
            id=_id_of(claim),
            model=job.model,
            params=tiles.params,
            n_inputs=1,  # until it is known
            pictures=job.pictures_of(item),
            tenant=job.tenant,
            name=f"{(job.name or job.id)[:150]}: tiles of image {claim.index}",
            owner=job.owner,
            tags=job.tags,
            priority=claim.priority,
            keep=job.keep,
            files=job.files,
        )
        self._submissions.begin(parts.id)
        with ThreadPoolExecutor(UPLOADS, thread_name_prefix="tiles") as pool:
            submission = Submission(
                parts,
                request={},
                store=self._store,
                ledger=self._ledger,
                submissions=self._submissions,
                intake=self._intake,
                pool=pool,
                committed=lambda _: None,  # the janitor brings tickets
                whole=(claim.job_id, claim.index),
            )
            for pictures, params in tiles.each:
                if held.lost:
                    raise Stopped
                submission.add(Upload(pictures=pictures, params=params))
            submission.commit()

    def _trouble(self, status: JobStatus) -> str:
        for start in range(0, status.n, 1000):
            for image in self._ledger.images(status.id, status.tenant, start):
                if image.state is ImageState.FAILED:
                    return f"tile {image.index} failed: {image.reason}"
        return "it was cancelled; retry this image"


def _id_of(claim: Claim) -> str:
    """The id of the job of an image's tiles."""
    return hashlib.sha256(f"tiles of {claim.job_id} {claim.index}".encode()).hexdigest()[:32]
