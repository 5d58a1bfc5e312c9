"""The record of jobs and images in Redis: the only truth about what is pending, running, done and failed.

Each method is one atomic call. Time is Redis' clock, never a host's. Every method raises `Unavailable` when
Redis does not answer. The call may have taken effect then; it may be made again, and takes effect once.
"""

from img2img_shared.ledger.image_claims import ImageClaims
from img2img_shared.ledger.job_changes import JobsChanged
from img2img_shared.ledger.job_lifecycle import JobLifecycle
from img2img_shared.ledger.model_loads import ModelLoads
from img2img_shared.ledger.worker_records import WorkerRecords


class Ledger(JobLifecycle, JobsChanged, ImageClaims, WorkerRecords, ModelLoads):
    """The ledger of one farm.

    `lease` is how many seconds an attempt may go unheard of; all workers of a farm must agree on it. Jobs
    submitted here are forgotten `keep_jobs` seconds after they finished, and are acknowledged when Redis has
    them in its memory, or on its disk, or when a replica has them, too (`acknowledge`).
    """
