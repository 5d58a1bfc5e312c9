"""Which checkpoint a worker means by a name."""

from pathlib import Path

from img2img_shared.checkpoints import checkpoint_name, checkpoints_in, is_checkpoint
from img2img_shared.errors import Refused

#: the checkpoint that comes with the worker: small, and the default where none is named
DEMO = Path(__file__).parents[1] / "demo"


def find_model(model: str | Path, models_dir: Path | None = None) -> Path:
    """The file or folder that a model's name or path means; a name in `models_dir` wins, then "demo".

    The name of a checkpoint in a folder of that folder may be given without it, and in any case, where that
    means one only.

    Raises:
        Refused: there is no such thing; says which names there are.
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


def _names(name: str, path: Path) -> set[str]:
    return {each.casefold() for each in (name, checkpoint_name(path), path.name)}
