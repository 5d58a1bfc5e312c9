"""The names of everything the farm keeps in Redis, and the scripts that use them.

All keys of a farm begin with one hash tag, ``{prefix}``: a submit touches a job, its model's schedule and its
tenant's list in one call, so that these must lie in one slot. One server carries far more than one farm.

    {prefix}:job:ID                hash: counters, `next`, the job as bytes
    {prefix}:job:ID:back           sorted set of images handed back, by index; in trouble, after all others
    {prefix}:job:ID:suspects       sorted set of images on which a worker died, by index
    {prefix}:job:ID:running        hash: index to "attempt worker"
    {prefix}:job:ID:failed         hash: index to reason
    {prefix}:job:ID:done           bitmap of finished images
    {prefix}:job:ID:attempts       hash: index to attempts so far, of images that needed more than one
    {prefix}:job:ID:deaths         hash: index to workers that died on it
    {prefix}:job:ID:troubles       hash: index to "times put back in trouble, end of others' turn, worker"
    {prefix}:job:ID:doubts         hash: index to the worker that could not do it, perhaps by its own fault
    {prefix}:job:ID:lacking        hash: index, or "worker WORKER" of all, to who have what is lacking there
    {prefix}:job:ID:events         stream
    {prefix}:job:ID:parts          set of the jobs that render tiles of its images
    {prefix}:job:ID:watched        somebody wants to see its images under way; expires
    {prefix}:job:ID:preview:INDEX  a JPEG of such an image; expires
    {prefix}:job:ID:steps:INDEX    "done total": its model calls; expires
    {prefix}:model:tenants:MODEL   sorted set of "PRIORITY TENANT" with images to give out, by virtual time
    {prefix}:model:jobs:PRIORITY:TENANT:MODEL  sorted set of such a tenant's jobs, by virtual time
    {prefix}:model:shares:MODEL    sorted set of "PRIORITY TENANT" without, by virtual time when they left
    {prefix}:model:urgent:MODEL    stream: the last that was more urgent than all that waited; expires
    {prefix}:model:suspected:MODEL sorted set of jobs with suspects, by priority
    {prefix}:model:delayed:MODEL   sorted set of images that wait for their next try, by its time
    {prefix}:model:leases:MODEL    sorted set of nonces by end of lease: who removes one, reports its end
    {prefix}:model:claims:MODEL    hash: nonce to "job index attempt alone worker"
    {prefix}:model:reserved:MODEL  the worker that is running empty for a suspect; expires
    {prefix}:model:janitor:MODEL   the worker that takes back leases; expires
    {prefix}:model:tick:MODEL      hash: when it last did, and until when it waits for holders after an outage
    {prefix}:model:waits:MODEL     hash: "PRIORITY TENANT" to images that could be given out
    {prefix}:model:workers:MODEL   sorted set of its workers by when they will not be heard any more; expires
    {prefix}:model:loaded:MODEL    sorted set of those that have it loaded, or load it, likewise; expires
    {prefix}:model:inversions:MODEL  sorted set of textual inversions that its workers can use, likewise
    {prefix}:model:loading:MODEL   sorted set of workers that load it or died of that, by its begin; expires
    {prefix}:models                hash: model to the hash of the checkpoint that its name stands for
    {prefix}:open                  hash: job to what is listed of it, as `place` of schedule.lua writes it
    {prefix}:waiting               hash: model to images that could be given out
    {prefix}:starved               hash: model to since when images of it wait that no worker has loaded
    {prefix}:load_seconds          hash: model to what its last load took
    {prefix}:image_seconds         hash: model to how long an image of it takes a worker
    {prefix}:takes                 hash: model to parameters that it takes and most do not
    {prefix}:board                 what waits for each model and who has it, see `board.lua`; expires
    {prefix}:under_way             hash: tenant to images that have not ended
    {prefix}:cancels               stream of the jobs that were cancelled last
    {prefix}:tenant:TENANT         sorted set of jobs by creation
    {prefix}:changed:TENANT        sorted set of jobs by when something happened to them last; expires
    {prefix}:once:TENANT:KEY       the job that an idempotency key made
    {prefix}:answer:TENANT:VERB:JOB:KEY  what was answered to a call with that idempotency key; expires
    {prefix}:answer:VERB:SUBJECT:KEY     the same of what is not about a job; expires
    {prefix}:arrivals              jobs that were submitted so far, by which they are told apart by age
    {prefix}:submissions           sorted set of jobs whose inputs are being written, by when that began
    {prefix}:naming:JOB            beginnings of digests that such a job is about to name; expires
    {prefix}:submitted:TENANT      list of the jobs that were submitted last
    {prefix}:due                   sorted set of finished jobs by when they are to be removed
    {prefix}:removed               sorted set of removed jobs by when to look for results of theirs
    {prefix}:doomed                hash: "tenant/digest" to when its removal from the store is over
    {prefix}:stored                hash: tenant to bytes uploaded since the store was looked through
    {prefix}:audit                 stream of who changed what
    {prefix}:janitor               hash of what the store's janitor goes by: generation, trusted, swept, ...
    {prefix}:abandoned:JOB         such a job can be written no more: it was removed, or its inputs; expires
    {prefix}:aside:KEY             what lay under a job's key and was none of the farm's; expires
    {prefix}:worker:WORKER         what a live worker says of itself; expires
    {prefix}:worker:WORKER:order   what an operator wants of it; expires
    {prefix}:worker:WORKER:outdone  how many images that it could not do others have done; expires
    {prefix}:worker:WORKER:holding hash: number of its claims, and nonce of the suspect that it runs alone
    {prefix}:worker:WORKER:reserved  the model for whose suspect it is running empty; expires
    {prefix}:worker:WORKER:loras   names of the LoRAs that it has; expires
    {prefix}:worker:WORKER:inversions  the textual inversions that it has; expires
    {prefix}:worker:WORKER:files   names of the other files that it has, by kind; expires
    {prefix}:farm-id               what the farm's store holds under that name, too
    {prefix}:workers               sorted set of workers by when they were last heard
    {prefix}:served                sorted set of the models of live workers, by when that is over
    {prefix}:dead:NONCE            image whose attempt ended because its worker was taken for dead; expires
    {prefix}:gateway:...           the gateway's own, see `tables`

An older version had, by model, ``schedule`` (a sorted set of jobs), ``floor``, ``holding`` and ``alone``:
claims and the janitor's rounds move its jobs to where they are now.

The queue that Celery reads is a list named `queue_key(prefix, model)`.
"""

import hashlib
import re
from importlib.resources import files


def farm_key(prefix: str) -> str:
    """The hash tag with which every ledger key of a farm begins."""
    return "{" + prefix + "}"


def job_key(prefix: str, job_id: str) -> str:
    """The hash of a job."""
    return f"{farm_key(prefix)}:job:{job_id}"


def watched_key(prefix: str, job_id: str) -> str:
    """There while somebody watches a job's images."""
    return f"{job_key(prefix, job_id)}:watched"


def preview_key(prefix: str, job_id: str, index: int) -> str:
    """What an image of a job looks like so far."""
    return f"{job_key(prefix, job_id)}:preview:{index}"


def steps_key(prefix: str, job_id: str, index: int) -> str:
    """How far an image of a job is."""
    return f"{job_key(prefix, job_id)}:steps:{index}"


def events_key(prefix: str, job_id: str) -> str:
    """The stream of a job's events."""
    return f"{job_key(prefix, job_id)}:events"


def loras_key(prefix: str, worker: str) -> str:
    """The names of the LoRAs that a worker has."""
    return f"{farm_key(prefix)}:worker:{worker}:loras"


def inversions_key(prefix: str, worker: str) -> str:
    """The textual inversions that a worker has."""
    return f"{farm_key(prefix)}:worker:{worker}:inversions"


def files_key(prefix: str, worker: str) -> str:
    """The names of other files that a worker has."""
    return f"{farm_key(prefix)}:worker:{worker}:files"


def queue_name(model: str) -> str:
    """The Celery queue of a model: readable, safe whatever the model is called, its own."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", model)[-40:].strip("-.")
    return f"img2img.{readable}.{hashlib.sha256(model.encode()).hexdigest()[:12]}"


def queue_prefix(prefix: str) -> str:
    """What kombu puts before each of its own keys, so that farms can share a Redis."""
    return f"{prefix}:celery:"


def queue_key(prefix: str, model: str) -> str:
    """The Redis list behind a model's queue."""
    return queue_prefix(prefix) + queue_name(model)


def script(name: str) -> str:
    """The Lua text of one of the ledger's scripts, with what all of them share before it."""
    folder = files("img2img_shared.ledger") / "lua"
    parts = (*(f"common/{part}" for part in ("keys", "jobs", "schedule", "attempts")), name)
    return "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in parts)
