"""The model that a worker renders with, and its exchange for another."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from img2img_shared.records import WorkerInfo
from img2img_worker.engine.engine import Engine
from img2img_worker.farm.loaded_checkpoint import LoadedCheckpoint
from img2img_worker.farm.served import Served


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A checkpoint on the device, and the engine that renders with it."""

    checkpoint: LoadedCheckpoint
    engine: Engine
    #: what recipes need to know of it
    served: Served
    #: that its load took, and whether it had waited in the host's memory
    seconds: float
    was_waiting: bool = False


class CurrentModel:
    """The model on the device, for all threads; while models are exchanged there is none.

    Args:
        info: the worker's description, for the farm.
    """

    def __init__(self, info: WorkerInfo) -> None:
        self.info = info
        self._loaded: LoadedModel | None = None
        self._is_open = False
        self._claiming = 0
        self._changed = threading.Condition()

    @property
    def loaded(self) -> LoadedModel | None:
        """The current model; None while another is being loaded."""
        return self._loaded

    @contextmanager
    def claiming(self) -> Iterator[LoadedModel | None]:
        """A context in which an image of the model may be claimed; None: no image may be claimed now."""
        with self._changed:
            loaded = self._loaded if self._is_open else None
            self._claiming += loaded is not None
        try:
            yield loaded
        finally:
            with self._changed:
                self._claiming -= loaded is not None
                self._changed.notify_all()

    def close(self) -> None:
        """Allow no more claims; returns when none is under way."""
        with self._changed:
            self._is_open = False
            self._changed.wait_for(lambda: not self._claiming)

    def take(self) -> LoadedModel | None:
        """The model, which no longer is the current one. Call `close` first."""
        with self._changed:
            loaded, self._loaded = self._loaded, None
        return loaded

    def put(self, loaded: LoadedModel) -> None:
        """Make this the current model, whose images may be claimed."""
        with self._changed:
            self._loaded, self._is_open = loaded, True
            info = loaded.checkpoint.worker_info(self.info.id, loaded.engine.slots)
            self.info = replace(info, others=self.info.others)

    def announce(self, **changes: Any) -> None:
        """Change fields of the worker's `info`."""
        with self._changed:
            self.info = replace(self.info, **changes)
