"""Decides from an error what is to blame: the image, this worker, or neither."""

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from enum import Enum

from img2img_shared.errors import FarmError, Refused, StoreError, Unavailable, WireError, WorkerError
from img2img_worker.farm.backoff import shortage
from img2img_worker.farm.health import Health
from img2img_worker.farm.leases import Stopped
from img2img_worker.farm.other_workers import OthersHaveIt
from img2img_worker.farm.travel.model_cache import NoRoom

#: fields whose values name files that each worker has of its own
_OWN_FILES = (
    *("checkpoint", "lora", "hypernetwork", "upscaler", "face_restorer", "control.model"),
    *("vae", "sd_vae_encode_method", "sd_vae_decode_method", "show_progress_type"),
)


class Blame(Enum):
    """What kept an image from being rendered, which decides what happens to it."""

    #: nobody: the worker ends, or the job was cancelled. It is given out again at once
    NOBODY = "nobody"
    #: this worker, which lacks what others have: it is given to them
    FILES = "files"
    #: this worker, which claims nothing more for now. It is given out again at once, to others
    WORKER = "worker"
    #: a shortage that passes. It waits, longer each time, and fails when that was too often
    MOMENT = "moment"
    #: the image, or something about this worker that no check tells. Another worker tries it, and decides
    EITHER = "either"
    #: the image: it fails
    IMAGE = "image"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Who is to blame, and what for."""

    blame: Blame
    reason: str = ""
    #: workers that have what this one lacks
    others: Sequence[str] = ()
    #: one that nobody foresaw
    error: Exception | None = None


def is_of_own_files(error: Refused) -> bool:
    """Whether an image was refused for a file which each worker has of its own, or lacks."""
    return error.field in _OWN_FILES


def judge(
    error: Exception, health: Health, having: Callable[[Refused], Sequence[str]] = lambda _: ()
) -> Verdict:
    """What `error` means for its image; may check the worker's health.

    Args:
        having: finds workers that have a file for lack of which this one refused an image.
    """
    if isinstance(error, Stopped | CancelledError | Unavailable):
        return Verdict(blame=Blame.NOBODY)
    if isinstance(error, WireError):  # a worker of a newer version may read it
        return Verdict(blame=Blame.MOMENT, reason=str(error))
    if short_of := shortage(error):
        return Verdict(blame=Blame.MOMENT, reason=f"{short_of}: {str(error) or type(error).__name__}")
    if isinstance(error, NoRoom):
        return Verdict(blame=Blame.MOMENT, reason=str(error))
    if isinstance(error, StoreError):
        if health.trouble is not None:
            return Verdict(blame=Blame.WORKER, reason=health.trouble)
        return Verdict(blame=Blame.MOMENT if error.transient else Blame.EITHER, reason=error.reason)
    if isinstance(error, OthersHaveIt):
        return Verdict(blame=Blame.FILES, reason=str(error), others=error.others)
    if isinstance(error, Refused) and is_of_own_files(error):
        others = having(error)
        return Verdict(blame=Blame.FILES if others else Blame.EITHER, reason=str(error), others=others)
    if isinstance(error, WorkerError):
        return Verdict(blame=Blame.EITHER, reason=str(error))
    if isinstance(error, FarmError):
        return Verdict(blame=Blame.IMAGE, reason=str(error))
    if trouble := health.check_all():
        return Verdict(blame=Blame.WORKER, reason=trouble, error=error)
    return Verdict(blame=Blame.EITHER, reason=f"{type(error).__name__}: {error}", error=error)
