"""What ``/v1`` answers about workers, models and samplers."""

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict

from img2img_gateway.v1.examples import MOMENT, example
from img2img_shared.records import Demand, WorkerOrder, WorkerStatus


class WorkerAnswer(BaseModel):
    """A live worker."""

    model_config = example(
        {
            "id": "gpu-1-4711",
            "model": "sd15",
            "models": ["sd15", "sdxl"],
            "loading": False,
            "device": "cuda",
            "slots": 32,
            "running": 8,
            "seen": MOMENT,
            "trouble": None,
            "rate": 41.5,
            "uptime": 86_400.0,
            "memory": 5_368_709_120,
            "device_memory": 9_663_676_416,
            "device_memory_total": 25_769_803_776,
        }
    )

    id: str
    #: the model that it has loaded, or is loading
    model: str
    #: all models that it can load
    models: list[str]
    loading: bool
    device: str
    #: most images in flight
    slots: int
    #: images it holds now
    running: int
    seen: datetime
    #: why it claims no images for now; null: it claims them
    trouble: str | None
    #: images finished a minute, of late
    rate: float
    #: seconds since it was started
    uptime: float
    #: bytes of its host's memory that it uses
    memory: int
    #: bytes of its device's memory: in use, and all there is; 0: the device shares its host's
    device_memory: int
    device_memory_total: int
    #: SHA-256 of its checkpoint, and of the files that it has fetched from the store
    sha256: str | None = None
    fetched: list[str] = []
    #: what went wrong last, and how many seconds ago; null: nothing, or the caller may not see it
    last_error: str | None = None
    last_error_ago: float | None = None

    @classmethod
    def of(cls, worker: WorkerStatus, *, operates: bool) -> Self:
        """Without its jobs. Only operators see its last error, which may be another tenant's affair."""
        models = {"models": worker.info.models}
        facts = {**vars(worker.info), **models, **vars(worker.report), **vars(worker)}
        if not operates or worker.report.last_error is None:
            facts |= {"last_error": None, "last_error_ago": None}
        return cls.model_validate(facts)


class OrderRequest(BaseModel):
    """``PUT /v1/workers/{worker}/order``."""

    model_config = ConfigDict(**example({"order": "drain"}), extra="forbid")

    #: "disable": claim nothing more, and stay; "drain": claim nothing more, and end; null: no order
    order: WorkerOrder | None


class OrderAnswer(BaseModel):
    """The workers that were given an order."""

    model_config = example({"workers": ["gpu-1-4711"], "order": "drain"})

    workers: list[str]
    order: WorkerOrder | None


class ModelAnswer(BaseModel):
    """A checkpoint that jobs can name."""

    model_config = example({"name": "sd15", "workers": 2, "slots": 64})

    name: str
    workers: int
    #: images in flight at once, over its workers
    slots: int


class DemandAnswer(BaseModel):
    """How many images of all tenants there are to render with a model."""

    model_config = example({"model": "sd15", "waiting": 240, "later": 0, "running": 32, "images": 272})

    model: str
    #: images that a worker could claim now
    waiting: int = 0
    #: images that wait until they are tried again
    later: int = 0
    running: int = 0
    #: the sum of the three
    images: int = 0

    @classmethod
    def of(cls, demand: Demand) -> Self:
        """The ledger's demand, with its sum."""
        return cls(**asdict(demand), images=demand.waiting + demand.later + demand.running)

    @classmethod
    def sum_of(cls, demands: Collection[Self]) -> Self:
        """The sum over several models, with an empty name."""
        counts = ("waiting", "later", "running", "images")
        return cls(model="", **{name: sum(getattr(each, name) for each in demands) for name in counts})


class SamplerAnswer(BaseModel):
    """A sampler, by A1111's name."""

    model_config = example(
        {"name": "DPM++ 2M", "aliases": ["k_dpmpp_2m"], "scheduler": "Karras", "options": []}
    )

    name: str
    aliases: list[str]
    #: the schedule that "Automatic" stands for
    scheduler: str
    #: the optional parameters that change its result
    options: list[str]
