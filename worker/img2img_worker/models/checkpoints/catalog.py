"""Finds checkpoints by name."""

from dataclasses import replace
from pathlib import Path

from img2img_shared.checkpoints import (
    Checkpoint,
    checkpoint_name,
    checkpoints_in,
    find_checkpoint,
    is_checkpoint,
    sha256_of,
)
from img2img_shared.errors import Refused

#: the small checkpoint that comes with the worker, and is its default
DEMO = Path(__file__).parents[1] / "demo"


def find_model(model: str | Path, models_dir: Path | None = None) -> Path:
    """The file or folder of a model, given its name or path; names in `models_dir` come first, then "demo".

    A name may be given in any case and without the subfolder, if that fits one checkpoint only.

    Raises:
        Refused: there is no such model; the message lists the names.
    """
    wanted, known = str(model), checkpoints_in(models_dir, pickles=True)
    if wanted in known:
        return known[wanted]
    path = DEMO if wanted == DEMO.name and is_checkpoint(DEMO) else Path(model)
    if path.exists():
        return path
    called = [name for name, found in known.items() if wanted.casefold() in _names(name, found)]
    if len(called) == 1:
        return known[called[0]]
    names = f", or one of {', '.join(called or known)}" if known else ""
    raise Refused(
        "model", wanted, f"no such checkpoint; give a folder or a .safetensors file that exists{names}"
    )


def find_other(wanted: str, models_dir: Path | None) -> Checkpoint:
    """The checkpoint in `models_dir` with this name, file name or title (with a hash); computes its hash.

    Raises:
        Refused: there is none; the message lists the names.
    """
    known = checkpoints_in(models_dir, pickles=True)
    listed = [Checkpoint(model=name, file_name=path.name, path=path) for name, path in known.items()]
    found = find_checkpoint(wanted, listed)
    if found is not None and found.path is not None:
        found = replace(found, sha256=sha256_of(found.path))
        if wanted == found.model or found.is_called(wanted):
            return found
    raise Refused("checkpoint", wanted, f"give one of {', '.join(known) or 'none: the folder has none'}")


def _names(name: str, path: Path) -> set[str]:
    return {each.casefold() for each in (name, checkpoint_name(path), path.name)}
