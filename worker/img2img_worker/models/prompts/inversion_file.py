"""Reads the vectors in files of textual inversions, in the layouts that trainers write."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from img2img_shared.checkpoints import sha256_of
from img2img_worker.models.foreign_files import reading
from img2img_worker.models.pickles import load_pickle
from img2img_worker.models.prompts import inversion_picture

ENDINGS = (".safetensors", ".pt", ".bin", *inversion_picture.ENDINGS)
#: vectors that fit into one chunk of a prompt
MOST_VECTORS = 75
#: what files for SDXL call the vectors of its text encoders, in the encoders' order
XL_PARTS = ("clip_l", "clip_g")
#: digits of a hash in an infotext
SHORT = 12


@dataclass(frozen=True, kw_only=True)
class InversionFile:
    """The content of a file, whichever checkpoint it is for."""

    #: the file's, or the name that a picture contains
    name: str
    #: float32 [n, width] by text encoder ("": the only one)
    parts: Mapping[str, Tensor]
    step: int | None
    short_hash: str


@lru_cache(maxsize=4096)
def read_file(path: Path, _modified: int, _size: int) -> InversionFile | None:
    """The textual inversion in a file; None: it is a picture without one.

    Args:
        _modified, _size: of the file, so that a changed one is read again.

    Raises:
        ValueError: it is no textual inversion.
        OSError: it cannot be read.
    """
    with reading():
        data: Any = _read_data(path)
        if data is None:
            return None
        parts = checked_parts(data)
    step = data.get("step")
    says = data.get("name") if path.suffix.lower() in inversion_picture.ENDINGS else None
    return InversionFile(
        name=says if isinstance(says, str) and says else path.stem,
        parts=parts,
        step=step if isinstance(step, int) else None,
        short_hash=sha256_of(path)[:SHORT],
    )


def about_file(path: Path) -> tuple[Path, int, int]:
    """A file's path, time of modification in nanoseconds, and size in bytes.

    Raises:
        OSError: it is not there.
    """
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size


def _read_data(path: Path) -> Any:
    ending = path.suffix.lower()
    if ending in inversion_picture.ENDINGS:
        return inversion_picture.read_picture(path)
    try:
        if ending == ".safetensors":
            return load_file(path)
        return load_pickle(path, also=[nn.ParameterDict])  # the oldest trainer saved one
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"not readable ({error})") from None


def checked_parts(data: Any) -> Mapping[str, Tensor]:
    parts = {part: _vectors(vectors) for part, vectors in _parts(data).items()}
    lengths = {len(vectors) for vectors in parts.values()}
    if len(lengths) != 1 or not 1 <= max(lengths) <= MOST_VECTORS:
        raise ValueError(f"1 to {MOST_VECTORS} vectors are read, not {joined(sorted(lengths))}")
    return parts


def _parts(data: Any) -> Mapping[str, Any]:
    if isinstance(data, dict) and "string_to_param" in data:  # A1111's own
        data = data["string_to_param"]
        data = dict(data) if isinstance(data, nn.ParameterDict) else data
    elif isinstance(data, dict) and data.keys() >= set(XL_PARTS):
        return {part: data[part] for part in XL_PARTS}
    if not isinstance(data, dict) or len(data) != 1:
        raise ValueError("not one textual inversion")
    return {"": next(iter(data.values()))}


def _vectors(found: Any) -> Tensor:
    if not isinstance(found, Tensor) or found.ndim not in (1, 2) or not found.is_floating_point():
        raise ValueError("not one textual inversion")
    vectors = found.detach().float()
    if not vectors.isfinite().all():
        raise ValueError("numbers that are not finite")
    return vectors[None] if vectors.ndim == 1 else vectors


def joined(numbers: Iterable[int]) -> str:
    return " and ".join(map(str, numbers))
