"""Loads models onto the device, each with an engine, and unloads them."""

import gc
import logging
import time
import weakref
from collections.abc import Mapping

import torch

from img2img_shared.file_hashes import FileHashes
from img2img_shared.ledger import Ledger
from img2img_shared.settings import Settings
from img2img_worker.engine.engine import Engine
from img2img_worker.engine.measure import find_slots
from img2img_worker.farm import allocator
from img2img_worker.farm.current_model import LoadedModel
from img2img_worker.farm.events import Observer, OutOfMemory
from img2img_worker.farm.host_memory import HostMemory
from img2img_worker.farm.loaded_checkpoint import LoadedCheckpoint
from img2img_worker.farm.travel.model_files import FoundCheckpoint, ModelFiles
from img2img_worker.models.checkpoints.loading import find_device, read_for
from img2img_worker.models.faces.restorers import FaceRestorers
from img2img_worker.models.families.family import Family
from img2img_worker.models.upscalers.upscalers import Upscalers

log = logging.getLogger(__name__)


class ModelLoader:
    """Loads one model after the other, and remembers how long that took.

    Args:
        hashes: of files that were read before.
        files: where models are, or are fetched to.
        host_memory: where models wait that are not on the device.
        rebind: bind the checkpoints' names to those here, even if the farm knows others by them.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        settings: Settings,
        hashes: FileHashes,
        files: ModelFiles,
        upscalers: Upscalers,
        face_restorers: FaceRestorers,
        host_memory: HostMemory,
        rebind: bool,
        observe: Observer,
    ) -> None:
        if settings.compile:
            # what is not compiled by the warm-up runs as it is: no image waits minutes for a compiler
            torch.compiler.set_stance("eager_on_recompile")
        self._ledger = ledger
        self._settings = settings
        self._hashes = hashes
        self._files = files
        self._upscalers = upscalers
        self._face_restorers = face_restorers
        self._host_memory = host_memory
        self._rebind = rebind
        self._observe = observe
        self._is_on_cpu = find_device(settings.device).type == "cpu"
        #: what was fetched last stays until it is loaded
        self._fetched: FoundCheckpoint | None = None
        #: by model, as found by rendering
        self._slots: dict[str, int] = {}
        #: whether other checkpoints see masks, of those that were loaded
        self._inpainting: dict[str, bool] = {}
        self._from_disk: dict[str, float] = {}
        self._from_memory: dict[str, float] = {}

    @property
    def seconds(self) -> Mapping[str, float]:
        """How long loads of models take, if that was measured here."""
        waiting = {model: self._from_memory.get(model, 0.0) for model in self._host_memory.models}
        return self._from_disk | {model: seconds for model, seconds in waiting.items() if seconds}

    def load(self, model: str) -> LoadedModel:
        """Load a model onto the device. If memory is short, the host's copies are dropped for one more try.

        Raises:
            Refused: it is not a checkpoint, or not the one the farm knows by that name.
            MemoryError, torch.OutOfMemoryError: there is no room for it.
        """
        self.fetch(model)
        try:
            return self._load(model)
        except (MemoryError, torch.OutOfMemoryError) as error:
            log.warning("no room for %s (%s): once more, with nothing else in memory", model, error)
        # out here, where no traceback keeps what was loaded of it
        self._host_memory.clear()
        _tidy()
        return self._load(model)

    def fetch(self, model: str) -> None:
        """Fetch a model's file to this machine, while another model renders.

        Raises:
            Refused, WorkerError, StoreError, Unavailable: like `ModelFiles.checkpoint`.
        """
        if model not in self._host_memory.models:
            self._fetched = self._files.checkpoint(model)

    def unload(self, loaded: LoadedModel) -> None:
        """Move a model to the host's memory, if there is room. Nobody else may be using it."""
        loaded.engine.close()
        loaded.checkpoint.park(self._host_memory)

    def _load(self, model: str) -> LoadedModel:
        begun = time.monotonic()
        _tidy()
        was_waiting = model in self._host_memory.models
        with allocator.loading(keeps=self._is_on_cpu):
            checkpoint = LoadedCheckpoint.load(
                model,
                self._ledger,
                self._settings,
                self._hashes,
                self._host_memory,
                self._files,
                rebind=self._rebind,
            )
        engine = self._engine(model, checkpoint.family)
        seconds = time.monotonic() - begun
        (self._from_memory if was_waiting else self._from_disk)[model] = seconds
        served = checkpoint.served(
            self._settings, self._upscalers, self._face_restorers, self._files, self._other_inpaints
        )
        return LoadedModel(
            checkpoint=checkpoint, engine=engine, served=served, seconds=seconds, was_waiting=was_waiting
        )

    def _engine(self, model: str, family: Family) -> Engine:
        """An engine with as many slots as pay, compiled for the configured sizes."""
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
            others=self._load_other,
            most_others=settings.other_checkpoints,
            on_out_of_memory=self._out_of_memory,
        )
        if settings.compile:
            log.info("compiling for pictures of %s: this takes minutes", settings.compile)
            engine.warm_up(settings.compiled_sizes).result()
        return engine

    def _load_other(self, wanted: str) -> Family:
        """Load a checkpoint that images want besides the served one; its file is kept as long as it is."""
        _, found = self._files.other(wanted)
        with allocator.loading(keeps=self._is_on_cpu):
            family = read_for(found.path, self._settings).build()
        self._inpainting[wanted] = family.inpaints
        if found.held is not None:
            weakref.finalize(family, found.held.close)
        return family

    def _other_inpaints(self, wanted: str) -> bool:
        return self._inpainting.get(wanted, False)

    def _out_of_memory(self, slots: int, put_back: int) -> None:
        self._observe(OutOfMemory(slots=slots, put_back=put_back))


def _tidy() -> None:
    """Return unused memory to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
