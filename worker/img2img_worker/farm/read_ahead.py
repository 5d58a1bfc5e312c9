"""Reads a checkpoint while torch is being imported, which takes as long."""

import os
import threading
from contextlib import suppress
from pathlib import Path

from img2img_shared.checkpoints import sha256_of
from img2img_shared.errors import FarmError
from img2img_shared.file_hashes import FileHashes
from img2img_worker.models.checkpoints.catalog import find_model


def read_ahead(model: str, models_dir: Path | None, hashes: FileHashes) -> None:
    """In a thread, read its files into memory, and hash them; what is wrong with it is reported later."""
    threading.Thread(target=_read, args=(model, models_dir, hashes), name="read-ahead", daemon=True).start()


def _read(model: str, models_dir: Path | None, hashes: FileHashes) -> None:
    with suppress(FarmError, OSError):
        path = find_model(model, models_dir)
        for file in path.rglob("*.safetensors") if path.is_dir() else [path]:
            _want(file)
        sha256_of(path, hashes)


def _want(file: Path) -> None:
    """Tell the system that the whole file is needed soon."""
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)
