"""A model on this machine: a file with what belongs to it beside it, or a folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from img2img_shared.checkpoints import INDEX, VAES, files_of
from img2img_shared.errors import Refused
from img2img_shared.pushed_models.kind import header, kind_of
from img2img_shared.pushed_models.pushed_model import ENDINGS, Ending, ModelKind

#: folders of vocabularies beside a checkpoint, and the tensors that want them
_TOKENIZER, _T5_TOKENIZER = "tokenizer", "tokenizer_t5"
_TOKENS, _T5 = "token_embedding.weight", "text_encoders.t5xxl."
#: tokens of CLIP's own vocabulary, which every worker has
_CLIP_TOKENS = 49_408
#: what diffusers calls a network's file, and what lies beside it in a folder of the network's name
_DIFFUSERS, _CONFIG = "diffusion_pytorch_model", "config.json"


@dataclass(frozen=True, kw_only=True)
class LocalModel:
    """The files that a push of a model includes."""

    kind: ModelKind
    #: its folder's name, or its file's without the ending
    name: str
    ending: Ending
    #: by their places in its folder, or beside it; of a file, that one is first
    files: Mapping[str, Path]

    def beside(self, name: str) -> dict[str, Path]:
        """The files beside it, under the names they have if it is called `name`."""
        if not self.ending:
            return dict(self.files)
        return {
            name + path.removeprefix(self.name) if path.startswith(self.name) else path: file
            for path, file in self.files.items()
        }


def find_local(path: Path, kind: ModelKind | None) -> LocalModel:
    """The model at a path.

    Args:
        kind: None: recognise it by its tensors.

    Raises:
        Refused: it is not a model, or its kind must be given.
    """
    ending = next((each for each in ENDINGS if each == path.suffix.lower()), None)
    if path.is_dir():
        return _folder(path.resolve(), kind)
    if _is_in_own_folder(path):
        return _folder(path.resolve().parent, kind)
    if not path.exists():
        raise Refused("file", str(path), "there is no such file; give one of weights, or a folder")
    if ending is None:
        raise Refused("file", str(path), f"give a folder, or a file that ends with {', '.join(ENDINGS)}")
    if ending == ".safetensors" and path.is_file():
        header(path)
    if not path.is_file() or not path.stat().st_size:
        what = "it is empty" if path.is_file() else "it is no file"
        raise Refused("file", str(path), f"{what}; give a file of weights")
    found = kind_of(path) if kind is None else kind
    files = {path.name: path} | (files_beside(path) if found == "checkpoint" else {})
    return LocalModel(kind=found, name=path.stem, ending=ending, files=files)


def weights_in(path: Path) -> Path:
    """The file that identifies a control network: itself, or the first of the weights in its folder."""
    return _weights(files_of(path)) or path if path.is_dir() else path


def files_beside(checkpoint: Path) -> dict[str, Path]:
    """The files beside a checkpoint that belong to it, by their relative paths, as its readers look for them.

    These are ``NAME.yaml``, VAEs whose names begin with the checkpoint's, and the vocabularies that it needs.
    """
    folder = checkpoint.parent
    found = {each.name: each for each in sorted(folder.iterdir()) if _is_for(each, checkpoint)}
    for tokenizer in _tokenizers(checkpoint):
        parts = sorted(each for each in (folder / tokenizer).glob("[!.]*") if each.is_file())
        found |= {f"{tokenizer}/{each.name}": each for each in parts}
    return found


def _is_for(path: Path, checkpoint: Path) -> bool:
    is_vae = path.name.startswith(checkpoint.stem) and path.name.lower().endswith(VAES)
    return (is_vae or path == checkpoint.with_suffix(".yaml")) and path.is_file()


def _tokenizers(checkpoint: Path) -> list[str]:
    """The folders of the vocabularies that its text encoders need besides CLIP's own."""
    if checkpoint.suffix.lower() != ".safetensors":
        return []
    tensors = header(checkpoint)
    tokens = [each.get("shape", [0])[0] for name, each in tensors.items() if name.endswith(_TOKENS)]
    wanted = {
        _TOKENIZER: any(each != _CLIP_TOKENS for each in tokens),
        _T5_TOKENIZER: any(name.startswith(_T5) for name in tensors),
    }
    return [folder for folder, is_wanted in wanted.items() if is_wanted]


def _is_in_own_folder(path: Path) -> bool:
    return path.stem.startswith(_DIFFUSERS) and (path.parent / _CONFIG).is_file()


def _folder(folder: Path, kind: ModelKind | None) -> LocalModel:
    files = files_of(folder)
    weights = _weights(files)
    found: ModelKind | None = "checkpoint" if INDEX in files else None
    if found is None and weights is not None:
        found = kind or kind_of(weights)
    if found not in ("checkpoint", "control") or kind not in (None, found):
        reason = (
            f"give a file, or a folder as diffusers saves a checkpoint ({INDEX}) or a control network "
            f"({_CONFIG}, {_DIFFUSERS}.safetensors)"
        )
        raise Refused("file", str(folder), reason)
    return LocalModel(kind=found, name=folder.name, ending="", files=files)


def _weights(files: Mapping[str, Path]) -> Path | None:
    found = (path for name, path in files.items() if name.startswith(_DIFFUSERS) and path.suffix != ".json")
    return next(found, None)
