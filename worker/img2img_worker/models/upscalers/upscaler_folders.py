"""Which upscalers lie in A1111's folders, by the names under which A1111 lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from img2img_shared.model_folders import files_below
from img2img_shared.upscaler_names import A1111_NAMES
from img2img_worker.models.upscalers.upscaler_files import ENDINGS, architecture


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How A1111 runs the networks of one folder."""

    #: beside its checkpoints' folder
    folder: str
    #: parameters that say how large tiles are and how they overlap: these words and "_tile", "_tile_overlap"
    options: str
    #: where tiles overlap their mean is taken, and not a gradient between them
    averages: bool = False
    #: in half precision on a GPU, as far as a network can
    halves: bool = False
    #: file to name, without their endings, where A1111 has names of its own
    names: Mapping[str, str]


def _named(*beginnings: str) -> dict[str, str]:
    return {file: name for file, name in A1111_NAMES.items() if file.startswith(beginnings)}


#: in the order in which one file's name wins over another's
KINDS = (
    Kind(folder="ESRGAN", options="esrgan", names={}),
    Kind(folder="RealESRGAN", options="esrgan", halves=True, names=_named("realesr-", "RealESRGAN_")),
    Kind(folder="DAT", options="dat", halves=True, names=_named("DAT_")),
    Kind(folder="HAT", options="esrgan", names={}),
    Kind(folder="SwinIR", options="swin", averages=True, halves=True, names=_named("SwinIR_")),
    Kind(folder="ScuNET", options="scunet", averages=True, names=_named("ScuNET", "scunet_")),
)
#: where networks lie, by spandrel's names; all others lie in ESRGAN
_FOLDERS = {
    "SwinIR": "SwinIR",
    "DAT": "DAT",
    "HAT": "HAT",
    "SCUNet": "ScuNET",
    "RealESRGAN Compact": "RealESRGAN",
}


@dataclass(frozen=True, kw_only=True)
class UpscalerFile:
    """One file in one of the folders."""

    path: Path
    kind: Kind
    #: why it is not to be had; None: it is
    reason: str | None = None


def find_upscalers(models_dir: Path | None) -> dict[str, UpscalerFile]:
    """Name to file of all that lie there now, those that cannot be used among them.

    Args:
        models_dir: holds the folders, written in any case: A1111's ``models``, or one of checkpoints.
    """
    found: dict[str, UpscalerFile] = {}
    for kind in KINDS:
        for folder in folders_called(kind.folder, models_dir):
            for path in files_below(folder, ENDINGS):
                reason = _reason(path)
                for name in _names(path.stem, kind):
                    found.setdefault(name, UpscalerFile(path=path, kind=kind, reason=reason))
    return dict(sorted(found.items(), key=lambda each: each[0].lower()))


def upscaler_at(path: Path) -> UpscalerFile:
    """A file that lies in no folder of A1111's: its name tells how it is run, or else its tensors."""
    reason = _reason(path)
    kind = next((each for each in KINDS if path.stem in each.names), None)
    if kind is None:
        folder = "" if reason is not None else _FOLDERS.get(architecture(path), "")
        kind = next((each for each in KINDS if each.folder == folder), KINDS[0])
    return UpscalerFile(path=path, kind=kind, reason=reason)


def folders_called(name: str, models_dir: Path | None) -> list[Path]:
    """Folders of that name, in any case, in the folder of models."""
    if models_dir is None or not models_dir.is_dir():
        return []
    return sorted(
        each for each in models_dir.iterdir() if each.name.lower() == name.lower() and each.is_dir()
    )


def _names(stem: str, kind: Kind) -> tuple[str, ...]:
    own = kind.names.get(stem)
    return (stem,) if own is None else (own, stem)


def _reason(path: Path) -> str | None:
    try:
        about = path.stat()
    except OSError as error:
        return f"not readable ({error.strerror})"
    return _read_reason(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=4096)
def _read_reason(path: Path, _modified: int, _size: int) -> str | None:
    try:
        architecture(path)
    except ValueError as error:
        return str(error)
    return None
