"""The model that a worker renders with, and its exchange for another one."""

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
    """The one model that is on the device, for all threads; for a while there is none.

    Args:
        info: how the worker announces itself.
    """

    def __init__(self, info: WorkerInfo) -> None:
        self.info = info
        self._loaded: LoadedModel | None = None
        self._is_open = False
        self._claiming = 0
        self._changed = threading.Condition()

    @property
    def loaded(self) -> LoadedModel | None:
        """It; None: another is being loaded."""
        return self._loaded

    @contextmanager
    def claiming(self) -> Iterator[LoadedModel | None]:
        """Within it an image of the model may be claimed; None: none may be now."""
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
        """No image of it is claimed any more; returns when no claim is under way."""
        with self._changed:
            self._is_open = False
            self._changed.wait_for(lambda: not self._claiming)

    def take(self) -> LoadedModel | None:
        """The model, which nobody here has any more. To be closed before."""
        with self._changed:
            loaded, self._loaded = self._loaded, None
        return loaded

    def put(self, loaded: LoadedModel) -> None:
        """From now on it is this one, and its images are claimed."""
        with self._changed:
            self._loaded, self._is_open = loaded, True
            info = loaded.checkpoint.worker_info(self.info.id, loaded.engine.slots)
            self.info = replace(info, others=self.info.others)

    def announce(self, **changes: Any) -> None:
        """Change what the farm is told of the worker: fields of its `info`."""
        with self._changed:
            self.info = replace(self.info, **changes)
