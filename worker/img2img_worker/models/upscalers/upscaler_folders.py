"""The upscalers in A1111's folders, by the names under which A1111 lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from img2img_shared.model_folders import files_below
from img2img_shared.upscaler_names import A1111_NAMES
from img2img_worker.models.upscalers.upscaler_files import ENDINGS, architecture


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How A1111 runs the networks of one folder."""

    #: its name, in A1111's folder of models
    folder: str
    #: the prefix of the parameters for tiles: "esrgan" means `esrgan_tile` and `esrgan_tile_overlap`
    options: str
    #: where tiles overlap, their mean is taken; else they fade into each other
    averages: bool = False
    #: in half precision on a GPU, if the network supports that
    half_precision: bool = False
    #: file names, without endings, to the names that A1111 gives them instead
    names: Mapping[str, str]


def _names_beginning(*beginnings: str) -> dict[str, str]:
    return {file: name for file, name in A1111_NAMES.items() if file.startswith(beginnings)}


#: in the order in which a folder's file wins over another folder's file of the same name
KINDS = (
    Kind(folder="ESRGAN", options="esrgan", names={}),
    Kind(
        folder="RealESRGAN",
        options="esrgan",
        half_precision=True,
        names=_names_beginning("realesr-", "RealESRGAN_"),
    ),
    Kind(folder="DAT", options="dat", half_precision=True, names=_names_beginning("DAT_")),
    Kind(folder="HAT", options="esrgan", names={}),
    Kind(
        folder="SwinIR", options="swin", averages=True, half_precision=True, names=_names_beginning("SwinIR_")
    ),
    Kind(folder="ScuNET", options="scunet", averages=True, names=_names_beginning("ScuNET", "scunet_")),
)
#: the folder for a network by spandrel's name of it; all others belong into ESRGAN
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
    #: why it cannot be used; None: it can
    reason: str | None = None


def find_upscalers(models_dir: Path | None) -> dict[str, UpscalerFile]:
    """The upscalers that are there now, by name, including those that cannot be used.

    Args:
        models_dir: A1111's ``models``, or a folder of checkpoints; its folders' names may be in any case.
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
    """A file outside of A1111's folders: its name tells how to run it, or else its tensors do."""
    reason = _reason(path)
    kind = next((each for each in KINDS if path.stem in each.names), None)
    if kind is None:
        folder = "" if reason is not None else _FOLDERS.get(architecture(path), "")
        kind = next((each for each in KINDS if each.folder == folder), KINDS[0])
    return UpscalerFile(path=path, kind=kind, reason=reason)


def folders_called(name: str, models_dir: Path | None) -> list[Path]:
    """The folders of a name, in any case, within the folder of models."""
    if models_dir is None or not models_dir.is_dir():
        return []
    return sorted(
        each for each in models_dir.iterdir() if each.name.lower() == name.lower() and each.is_dir()
    )


def _names(stem: str, kind: Kind) -> tuple[str, ...]:
    own = kind.names.get(stem)
    return (stem,) if own is None else (own, stem)


def _reason(path: Path) -> str | None:
    """Why a file cannot be used; None: it can."""
    try:
        architecture(path)
    except ValueError as error:
        return str(error)
    return None
