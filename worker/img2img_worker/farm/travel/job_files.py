"""Fetches the files that a job names for one of its images, and keeps them while it is made."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from img2img_shared.errors import Refused
from img2img_shared.job import Input, Job
from img2img_shared.pushed_models.download import PartsGiver
from img2img_shared.pushed_models.named import key_of, names_of
from img2img_shared.pushed_models.pushed_model import PushedModel
from img2img_worker.farm.leases import LeasedClaim
from img2img_worker.farm.retries import Retries
from img2img_worker.farm.travel.model_files import LOOK, ModelFiles
from img2img_worker.models.pinned_files import NOTHING_PINNED, PinnedFiles


@contextmanager
def files_of(
    held: LeasedClaim, job: Job, item: Input, files: ModelFiles, retries: Retries
) -> Iterator[PinnedFiles]:
    """A context with the pushed files that an image names, which are not removed meanwhile.

    Raises:
        Refused: one is no longer in the store, or the model's name now stands for another file.
        WorkerError: one is damaged, or there is no room for it here.
        StoreError: the store failed.
        Stopped: the claim was lost.
    """
    if not job.files:
        yield NOTHING_PINNED
        return
    _check_checkpoint(job, held.model.checkpoint.sha256)
    wanted = names_of(job.params_of(item), job.files)
    giver = _LeasedGiver(files.giver, held, retries)
    with files.pinned(job.files, wanted, giver, lambda: held.wait(LOOK)) as pinned:
        yield pinned


@dataclass(frozen=True)
class _LeasedGiver:
    """Reads parts of a file from the store, until the attempt's claim is lost."""

    giver: PartsGiver
    held: LeasedClaim
    retries: Retries

    def read(self, model: PushedModel, start: int, size: int) -> bytes:
        """Like that of the wrapped giver."""
        return self.retries.from_store(self.held, lambda: self.giver.read(model, start, size))


def _check_checkpoint(job: Job, loaded: str) -> None:
    """Check that the model's name still stands for the file that the job means: it may have been rebound."""
    wanted = job.files.get(key_of("checkpoint", job.model))
    if wanted is not None and wanted != loaded:
        reason = (
            f"the job means the file of SHA-256 {wanted}, and the name stands for {loaded} by now; submit it "
            "again by that hash"
        )
        raise Refused("model", job.model, reason)
