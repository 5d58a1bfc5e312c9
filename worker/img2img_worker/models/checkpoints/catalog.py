"""Which checkpoint a worker means by a name."""

from pathlib import Path

from img2img_shared.checkpoints import checkpoints_in, is_checkpoint
from img2img_shared.errors import Refused

#: the checkpoint that comes with the worker: small, and the default where none is named
DEMO = Path(__file__).parents[1] / "demo"


def find_model(model: str | Path, models_dir: Path | None = None) -> Path:
    """The file or folder that a model's name or path means; a name in `models_dir` wins, then "demo".

    Raises:
        Refused: there is no such thing; says which names there are.
    """
    known = checkpoints_in(models_dir, pickles=True)
    if str(model) in known:
        return known[str(model)]
    path = DEMO if str(model) == DEMO.name and is_checkpoint(DEMO) else Path(model)
    if path.exists():
        return path
    names = f", or one of {', '.join(known)}" if known else ""
    raise Refused("model", str(model), f"a checkpoint folder or a .safetensors file that exists{names}")
