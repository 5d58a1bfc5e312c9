"""What ``/v1`` answers about workers, models and samplers."""

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from typing import Self

from pydantic import ConfigDict

from img2img_gateway.v1.api_model import ApiModel
from img2img_gateway.v1.examples import MOMENT, example
from img2img_shared.records import Demand, WorkerOrder, WorkerStatus


class WorkerAnswer(ApiModel):
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
    model: str
    """The model that it has loaded, or is loading."""
    models: list[str]
    """All models that it can load."""
    loading: bool
    device: str
    slots: int
    """Most images in flight."""
    running: int
    """Images it holds now."""
    seen: datetime
    trouble: str | None
    """Why it claims no images for now; null: it claims them."""
    rate: float
    """Images finished a minute, of late."""
    uptime: float
    """Seconds since it was started."""
    memory: int
    """Bytes of its host's memory that it uses."""
    device_memory: int
    """Bytes of its device's memory that are in use; 0: the device shares its host's."""
    device_memory_total: int
    """Bytes of its device's memory; 0: the device shares its host's."""
    sha256: str | None = None
    """SHA-256 of its checkpoint; null: not known yet."""
    fetched: list[str] = []
    """SHA-256 of the files that it has fetched from the store."""
    last_error: str | None = None
    """What went wrong last; null: nothing, or the caller may not see it."""
    last_error_ago: float | None = None
    """How many seconds ago that was."""

    @classmethod
    def of(cls, worker: WorkerStatus, *, operates: bool) -> Self:
        """Without its jobs. Only operators see its last error, which may be another tenant's affair."""
        models = {"models": worker.info.models}
        facts = {**vars(worker.info), **models, **vars(worker.report), **vars(worker)}
        if not operates or worker.report.last_error is None:
            facts |= {"last_error": None, "last_error_ago": None}
        return cls.model_validate(facts)


class OrderRequest(ApiModel):
    """``PUT /v1/workers/{worker}/order``."""

    model_config = ConfigDict(**example({"order": "drain"}), extra="forbid")

    order: WorkerOrder | None
    """What to do: "disable" is claim nothing more, "drain" is that and then end, null takes it back."""


class OrderAnswer(ApiModel):
    """The workers that were given an order."""

    model_config = example({"workers": ["gpu-1-4711"], "order": "drain"})

    workers: list[str]
    order: WorkerOrder | None


class ModelAnswer(ApiModel):
    """A checkpoint that jobs can name."""

    model_config = example({"name": "sd15", "workers": 2, "slots": 64})

    name: str
    workers: int
    slots: int
    """Images in flight at once, over its workers."""


class DemandAnswer(ApiModel):
    """How many images of all tenants there are to render with a model."""

    model_config = example({"model": "sd15", "waiting": 240, "later": 0, "running": 32, "images": 272})

    model: str
    waiting: int = 0
    """Images that a worker could claim now."""
    later: int = 0
    """Images that wait until they are tried again."""
    running: int = 0
    images: int = 0
    """The sum of the three."""

    @classmethod
    def of(cls, demand: Demand) -> Self:
        """The ledger's demand, with its sum."""
        return cls(**asdict(demand), images=demand.waiting + demand.later + demand.running)

    @classmethod
    def sum_of(cls, demands: Collection[Self]) -> Self:
        """The sum over several models, with an empty name."""
        counts = ("waiting", "later", "running", "images")
        return cls(model="", **{name: sum(getattr(each, name) for each in demands) for name in counts})


class SamplerAnswer(ApiModel):
    """A sampler, by A1111's name."""

    model_config = example(
        {"name": "DPM++ 2M", "aliases": ["k_dpmpp_2m"], "scheduler": "Karras", "options": []}
    )

    name: str
    aliases: list[str]
    scheduler: str
    """The schedule that "Automatic" stands for."""
    options: list[str]
    """The optional parameters that change its result."""
