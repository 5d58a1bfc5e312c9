"""Which checkpoints there are, by name, and how A1111 writes them into a picture's parameters."""

import hashlib
from functools import lru_cache
from pathlib import Path

from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.folder import INDEX

#: what a single-file checkpoint ends with
_SAFE, _PICKLES = (".safetensors",), (".ckpt", ".pt")
#: the checkpoint that comes with the worker: small, and the default where none is named
DEMO = Path(__file__).parent.with_name("demo")


def find_model(model: str | Path, models_dir: Path | None = None) -> Path:
    """The file or folder that a model's name or path means; a name in `models_dir` wins, then "demo".

    Raises:
        Refused: there is no such thing; says which names there are.
    """
    known = find_models(models_dir, allow_pickles=True) if models_dir is not None else {}
    if str(model) in known:
        return known[str(model)]
    path = DEMO if str(model) == DEMO.name and _is_model(DEMO, _SAFE) else Path(model)
    if path.exists():
        return path
    names = f", or one of {', '.join(known)}" if known else ""
    raise Refused("model", str(model), f"a checkpoint folder or a .safetensors file that exists{names}")


def find_models(models_dir: Path, *, allow_pickles: bool = False) -> dict[str, Path]:
    """Name to path of every checkpoint right in `models_dir`, by name; no such folder, no checkpoints.

    Of the same name, a folder comes before a file.
    """
    if not models_dir.is_dir():
        return {}
    endings = _SAFE + _PICKLES if allow_pickles else _SAFE
    paths = [path for path in models_dir.iterdir() if _is_model(path, endings)]
    # what comes later wins: folders behind files, .safetensors behind pickles
    paths.sort(key=lambda path: (path.is_dir(), path.suffix in _SAFE, path.name))
    found = {model_name(path): path for path in paths}
    return dict(sorted(found.items()))


def model_name(path: str | Path) -> str:
    """What a checkpoint is called: its folder's or file's name without the ending."""
    path = Path(path)
    return path.stem if path.suffix in _SAFE + _PICKLES else path.name


def model_hash(path: str | Path) -> str | None:
    """A1111's "Model hash": the first 10 digits of a file's SHA-256; None for a folder."""
    path = Path(path)
    if not path.is_file():
        return None
    about = path.stat()
    return _short_hash(path, about.st_mtime_ns, about.st_size)


@lru_cache
def _short_hash(path: Path, _modified: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:10]


def _is_model(path: Path, endings: tuple[str, ...]) -> bool:
    return (path / INDEX).is_file() or (path.suffix in endings and path.is_file())
