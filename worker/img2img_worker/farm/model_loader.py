"""Brings models to the device, each with an engine, and takes them off it again."""

import gc
import logging
import time
from collections.abc import Mapping
from functools import partial

import torch

from img2img_shared.file_hashes import FileHashes
from img2img_shared.ledger import Ledger
from img2img_shared.settings import Settings
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.measure import find_slots
from img2img_worker.farm.current_model import LoadedModel
from img2img_worker.farm.events import Observer, OutOfMemory
from img2img_worker.farm.host_memory import HostMemory
from img2img_worker.farm.loaded_checkpoint import LoadedCheckpoint
from img2img_worker.models.checkpoints.loading import load_other
from img2img_worker.models.faces.restorers import FaceRestorers
from img2img_worker.models.families.family import Family
from img2img_worker.models.upscalers.upscalers import Upscalers

log = logging.getLogger(__name__)


class ModelLoader:
    """Loads one model after the other, and remembers what that took.

    Args:
        hashes: of files that were read before.
        host_memory: where models wait that are not on the device.
        rebind: from now on the farm knows the checkpoints here by their names, whichever it knew before.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        settings: Settings,
        hashes: FileHashes,
        upscalers: Upscalers,
        face_restorers: FaceRestorers,
        host_memory: HostMemory,
        rebind: bool,
        observe: Observer,
    ) -> None:
        # what is not compiled by the warm-up runs as it is: no image waits minutes for a compiler
        torch.compiler.set_stance("eager_on_recompile")
        self._ledger = ledger
        self._settings = settings
        self._hashes = hashes
        self._upscalers = upscalers
        self._face_restorers = face_restorers
        self._host_memory = host_memory
        self._rebind = rebind
        self._observe = observe
        #: by model, as found by rendering
        self._slots: dict[str, int] = {}
        self._from_disk: dict[str, float] = {}
        self._from_memory: dict[str, float] = {}

    @property
    def seconds(self) -> Mapping[str, float]:
        """What loads of models would take, as far as that was measured here."""
        waiting = {model: self._from_memory.get(model, 0.0) for model in self._host_memory.models}
        return self._from_disk | {model: seconds for model, seconds in waiting.items() if seconds}

    def load(self, model: str) -> LoadedModel:
        """The model on the device. When memory is short, none waits any more, and it is tried once more.

        Raises:
            Refused: it is no checkpoint, or not the farm's of that name.
            MemoryError, torch.OutOfMemoryError: there is no room for it.
        """
        try:
            return self._load(model)
        except (MemoryError, torch.OutOfMemoryError) as error:
            log.warning("no room for %s (%s): once more, with nothing else in memory", model, error)
        # out here, where no traceback keeps what was loaded of it
        self._host_memory.clear()
        _tidy()
        return self._load(model)

    def unload(self, loaded: LoadedModel) -> None:
        """It leaves the device, and waits in the host's memory, if there is room. Nobody else has it."""
        loaded.engine.close()
        loaded.checkpoint.park(self._host_memory)

    def _load(self, model: str) -> LoadedModel:
        begun = time.monotonic()
        _tidy()
        was_waiting = model in self._host_memory.models
        checkpoint = LoadedCheckpoint.load(
            model, self._ledger, self._settings, self._hashes, self._host_memory, rebind=self._rebind
        )
        engine = self._engine(model, checkpoint.family)
        seconds = time.monotonic() - begun
        (self._from_memory if was_waiting else self._from_disk)[model] = seconds
        served = checkpoint.served(self._settings, self._upscalers, self._face_restorers)
        return LoadedModel(
            checkpoint=checkpoint, engine=engine, served=served, seconds=seconds, was_waiting=was_waiting
        )

    def _engine(self, model: str, family: Family) -> Engine:
        """With as many slots as pay, and compiled for the sizes that are wanted."""
        settings = self._settings
        slots = settings.slots
        if slots == "auto":
            if model not in self._slots:
                self._slots[model] = find_slots(family, deterministic=settings.deterministic)
            slots = self._slots[model]
        engine = Engine(
            family,
            slots=slots,
            deterministic=settings.deterministic,
            others=partial(load_other, settings=settings),
            most_others=settings.other_checkpoints,
            on_out_of_memory=self._out_of_memory,
        )
        if settings.compile:
            log.info("compiling for pictures of %s: this takes minutes", settings.compile)
            engine.warm_up(settings.compiled_sizes).result()
        return engine

    def _out_of_memory(self, slots: int, put_back: int) -> None:
        self._observe(OutOfMemory(slots=slots, put_back=put_back))


def _tidy() -> None:
    """What nobody has any more is given back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
