"""A loaded model for tests that use its engine only."""

from types import SimpleNamespace
from typing import Any

from img2img_shared.records import WorkerInfo
from img2img_worker.engine.engine import Engine
from img2img_worker.farm.current_model import CurrentModel, LoadedModel


def loaded_model(engine: Engine | None, model: str = "m") -> LoadedModel:
    """A loaded model of that name, whose checkpoint has only what a worker announces."""

    def worker_info(worker: str, slots: int) -> WorkerInfo:
        return WorkerInfo(id=worker, model=model, device="cpu", slots=slots)

    checkpoint: Any = SimpleNamespace(model=model, worker_info=worker_info)
    served: Any = SimpleNamespace(model=model)
    anything: Any = engine or SimpleNamespace(slots=1)
    return LoadedModel(checkpoint=checkpoint, engine=anything, served=served, seconds=1.0)


def current_model(engine: Engine, model: str = "m") -> CurrentModel:
    """The same as a worker's current one."""
    current = CurrentModel(WorkerInfo(id="w", model="", device="cpu", slots=1))
    current.put(loaded_model(engine, model))
    return current
