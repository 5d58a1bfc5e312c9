"""Which checkpoints there are, by name, and how A1111 writes them into a picture's parameters."""

import hashlib
from pathlib import Path

from img2img_shared.errors import Refused
from img2img_worker.models.folder import INDEX

#: what a single-file checkpoint ends with; the last two only where pickles are allowed
_ENDINGS = (".safetensors", ".ckpt", ".pt")


def find_model(model: str | Path, models_dir: Path | None = None) -> Path:
    """The file or folder that a model's name or path means; a name in `models_dir` wins.

    Raises:
        Refused: there is no such thing; says which names there are.
    """
    known = find_models(models_dir) if models_dir is not None else {}
    if str(model) in known:
        return known[str(model)]
    path = Path(model)
    if path.exists():
        return path
    names = f", or one of {', '.join(known)}" if known else ""
    raise Refused("model", str(model), f"a checkpoint folder or a .safetensors file that exists{names}")


def find_models(models_dir: Path) -> dict[str, Path]:
    """Name to path of every checkpoint right in `models_dir`, by name; no such folder, no checkpoints."""
    if not models_dir.is_dir():
        return {}
    found = {model_name(path): path for path in sorted(models_dir.iterdir(), reverse=True) if _is_model(path)}
    return dict(sorted(found.items()))


def model_name(path: str | Path) -> str:
    """What a checkpoint is called: its folder's or file's name without the ending."""
    path = Path(path)
    return path.stem if path.suffix in _ENDINGS else path.name


def model_hash(path: str | Path) -> str | None:
    """A1111's "Model hash": the first 10 digits of a file's SHA-256; None for a folder."""
    path = Path(path)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:10]


def _is_model(path: Path) -> bool:
    return (path / INDEX).is_file() or (path.suffix in _ENDINGS and path.is_file())
