"""The checkpoint that a worker process serves."""

import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from img2img_shared.checkpoints import (
    PICKLES,
    SAFE,
    Checkpoint,
    identity,
    is_checkpoint,
    sha256_of,
)
from img2img_shared.file_hashes import FileHashes
from img2img_shared.ledger import Ledger
from img2img_shared.records import WorkerInfo
from img2img_shared.settings import Settings
from img2img_worker.farm.host_memory import HostMemory, WaitingCheckpoint
from img2img_worker.farm.redis_wait import when_redis_answers
from img2img_worker.farm.served import Served
from img2img_worker.farm.travel.model_cache import CachedModel
from img2img_worker.farm.travel.model_files import ModelFiles
from img2img_worker.models.checkpoints.loading import read_for
from img2img_worker.models.checkpoints.vae_files import VaeFiles
from img2img_worker.models.control.annotators import Annotators
from img2img_worker.models.faces.restorers import FaceRestorers
from img2img_worker.models.families.family import Family
from img2img_worker.models.upscalers.upscalers import Upscalers
from img2img_worker.pictures.decode import Decoder


@dataclass(frozen=True, kw_only=True)
class LoadedCheckpoint:
    """A checkpoint on its device, and how the farm identifies it."""

    #: the name that jobs have for it
    model: str
    family: Family
    path: Path
    sha256: str
    #: of the VAE beside it; None: it has its own
    vae_sha256: str | None
    #: bytes of the host's memory that it takes while it waits there
    size: int
    #: keeps it where it is, if it was fetched from the store
    held: CachedModel | None = None

    @property
    def identity(self) -> str:
        """See `img2img_shared.checkpoints.identity`."""
        return identity(self.sha256, self.vae_sha256)

    @classmethod
    def load(
        cls,
        model: str,
        ledger: Ledger,
        settings: Settings,
        hashes: FileHashes,
        host_memory: HostMemory,
        files: ModelFiles,
        *,
        rebind: bool,
    ) -> "LoadedCheckpoint":
        """Load a checkpoint, and bind its name to it in the whole farm.

        Args:
            hashes: of files that were read before.
            host_memory: where it may be already, and will be if its device has memory of its own.
            files: where it is, or is fetched to.
            rebind: even if the farm knows another checkpoint by this name.

        Raises:
            Refused: it is not a checkpoint, or not the one the farm knows by that name.
        """
        found = files.checkpoint(model)
        path = found.path
        known = _identity_of(path, settings, hashes)
        if not rebind and known is not None:
            when_redis_answers(partial(ledger.check_model, model, known))
        waiting = None if known is None else host_memory.find(model, known)
        if waiting is None:
            waiting = _read(model, path, settings, host_memory, known or "")
        family = waiting.build()
        sha256 = sha256_of(path, hashes)
        vae = family.vaes.automatic
        vae_sha256 = None if vae is None else sha256_of(vae.path, hashes)
        when_redis_answers(partial(ledger.bind_model, model, identity(sha256, vae_sha256), rebind=rebind))
        return cls(
            model=model,
            family=family,
            path=path,
            sha256=sha256,
            vae_sha256=vae_sha256,
            size=waiting.size,
            held=found.held,
        )

    def park(self, host_memory: HostMemory) -> None:
        """Move it to the host's memory, if there is room. If that is its device's memory, it stays there."""
        if self.family.device.type == "cpu":
            waiting = WaitingCheckpoint(identity=self.identity, size=self.size, build=lambda: self.family)
            host_memory.keep(self.model, waiting)

    def worker_info(self, worker: str, slots: int) -> WorkerInfo:
        """The description of the worker process with that id."""
        return WorkerInfo(
            id=worker,
            model=self.model,
            device=str(self.family.device),
            slots=slots,
            file_name=self.path.name,
            sha256=self.sha256,
            vae_sha256=self.vae_sha256,
            takes=_own_parameters(self.family),
            version=version("img2img-farm"),
        )

    def served(
        self,
        settings: Settings,
        upscalers: Upscalers,
        face_restorers: FaceRestorers,
        files: ModelFiles,
        other_inpaints: Callable[[str], bool],
    ) -> Served:
        """What recipes need to know of the checkpoint."""
        family = self.family
        checkpoint = Checkpoint(model=self.model, file_name=self.path.name, sha256=self.sha256)
        return Served(
            model=self.model,
            title=checkpoint.name,
            model_hash=checkpoint.short_hash,
            vae=family.vaes.name_and_hash,
            decoder=Decoder(settings.max_pixels),
            annotate=Annotators(
                settings.models_dir, device=family.device, allow_pickles=settings.allow_pickles
            ).annotate,
            vae_factor=family.vae_factor,
            native_side=family.native_side,
            side_multiple=family.side_multiple,
            lora_hashes=family.loras.hashes,
            inversion_hashes=family.inversions.hashes,
            levels=family.levels,
            float8=settings.weights_dtype is not None,
            context_length=family.context_length,
            inpaints=family.inpaints,
            run_upscaler=upscalers.enlarge,
            restore_faces=face_restorers.restore,
            other_title=files.other_title,
            other_inpaints=other_inpaints,
        )


def _own_parameters(family: Family) -> tuple[str, ...]:
    """Parameters that this checkpoint takes and most others refuse."""
    taken = {
        "image_cfg_scale": family.edits,
        "distilled_cfg_scale": family.distilled,
        "inpainting_mask_weight": family.inpaints,
    }
    return tuple(name for name, is_taken in taken.items() if is_taken)


def worker_id() -> str:
    """A new id for this process: a restarted worker must not be mistaken for the one that died."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def _read(
    model: str, path: Path, settings: Settings, host_memory: HostMemory, known: str
) -> WaitingCheckpoint:
    """Read a checkpoint's files; a copy for a device with memory of its own is kept here if there is room."""
    checkpoint = read_for(path, settings)
    has_device = checkpoint.builder.device.type != "cpu"
    size = checkpoint.size
    if has_device and host_memory.has_room(size):
        checkpoint = checkpoint.copied()
        host_memory.keep(model, WaitingCheckpoint(identity=known, size=size, build=checkpoint.build))
    return WaitingCheckpoint(identity=known, size=size, build=checkpoint.build)


def _identity_of(path: Path, settings: Settings, hashes: FileHashes) -> str | None:
    """The identity of a checkpoint's files; None if they cannot be read, which `load` then refuses."""
    if not is_checkpoint(path, SAFE + PICKLES):
        return None
    try:
        vae = VaeFiles.of(settings.models_dir, path).automatic()
        return identity(sha256_of(path, hashes), None if vae is None else sha256_of(vae, hashes))
    except OSError:
        return None
