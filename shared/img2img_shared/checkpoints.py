"""Checkpoints, and how they are found by a path, a name, a file's name, or a title with a hash."""

import hashlib
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from img2img_shared.errors import Refused
from img2img_shared.file_hashes import FileHashes
from img2img_shared.model_folders import files_below

#: what single-file checkpoints end with; the second are pickles, which workers may refuse
SAFE, PICKLES = (".safetensors",), (".ckpt", ".pt")
#: what VAEs end with that lie beside the checkpoint that they are for
VAES = tuple(f".vae{ending}" for ending in SAFE + PICKLES)
#: A1111's folder of checkpoints, in lower case, and its folders of other things
A1111_FOLDER = "stable-diffusion"
_OF_OTHERS = frozenset(("lora", "lycoris", "vae", "vae-approx", "embeddings", "controlnet", "hypernetworks"))
_OF_OTHERS |= {
    "text_encoder",
    "clip",
    "esrgan",
    "realesrgan",
    "swinir",
    "dat",
    "hat",
    "gfpgan",
    "codeformer",
    "ldsr",
}
_OF_OTHERS |= {"bsrgan", "scunet", "blip", "deepbooru", "torch_deepdanbooru", "karlo"}
#: what makes a folder a checkpoint in the diffusers layout
INDEX = "model_index.json"
#: files of such a folder that have a part in its pictures
_WEIGHING = frozenset({".safetensors", ".bin", ".json", ".txt", ".model"})
#: digits of a hash that A1111 shows
_SHORT = 10
#: what this process has read
_READ_HERE = FileHashes()


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint that is served, or could be."""

    #: what jobs and the ledger call it: the name or the path that its workers were started with
    model: str
    #: its file's or folder's name, as "sd15.safetensors"
    file_name: str
    #: hexadecimal; None: nobody has read it yet
    sha256: str | None = None
    #: where it is on this machine; None: on others
    path: Path | None = None
    #: parameters that it takes and most checkpoints do not; None: nobody has loaded it yet, so nobody knows
    takes: frozenset[str] | None = field(default_factory=frozenset)

    @property
    def name(self) -> str:
        """As in a picture's infotext: "sd15"."""
        return checkpoint_name(self.file_name)

    @property
    def short_hash(self) -> str | None:
        return self.sha256 and self.sha256[:_SHORT]

    @property
    def title(self) -> str:
        """As A1111's clients show it: "sd15.safetensors [6ce0161689]"."""
        return f"{self.file_name} [{self.short_hash}]" if self.sha256 else self.file_name

    def is_called(self, wanted: str) -> bool:
        """Whether `wanted` is this checkpoint's title, name, file or hash, in any case."""
        text, _, rest = wanted.partition(" [")
        digits = (rest.removesuffix("]") if rest else text).lower()
        if self.sha256 and digits in (self.sha256, self.short_hash):
            return not rest or self.is_called(text)
        if self.sha256 and rest:
            return False
        # clients on Windows write what they were told by an A1111 there
        return checkpoint_name(text.replace("\\", "/")).casefold() == self.name.casefold()


def is_hash(wanted: str) -> bool:
    """Whether a text may be the hash of a checkpoint, long or short."""
    return len(wanted) in (_SHORT, 64) and set(wanted.lower()) <= set("0123456789abcdef")


def find_checkpoint(wanted: str, known: Iterable[Checkpoint]) -> Checkpoint | None:
    """The checkpoint that `wanted` means; None if it is none of `known`.

    Of two that are the same file, or have the same hash, the first is meant.

    Raises:
        Refused: `wanted` means several different checkpoints.
    """
    checkpoints = list(known)
    for checkpoint in checkpoints:
        if wanted == checkpoint.model:
            return checkpoint
    path = Path(wanted)
    if path.is_absolute() and path.exists():
        for checkpoint in checkpoints:
            if checkpoint.path is not None and checkpoint.path.exists() and checkpoint.path.samefile(path):
                return checkpoint
        # another file of that name on this machine is another checkpoint
        checkpoints = [each for each in checkpoints if each.path is None]
    found = [checkpoint for checkpoint in checkpoints if checkpoint.is_called(wanted)]
    if len({each.sha256 or each.model for each in found}) > 1:
        names = ", ".join(each.model for each in found)
        raise Refused("model", wanted, f"several checkpoints have that name; give one of {names}")
    return found[0] if found else None


def checkpoint_name(path: str | Path) -> str:
    """What a checkpoint is called: its folder's or file's name without the ending.

    >>> checkpoint_name("models/sd-v1.5.safetensors")
    'sd-v1.5'
    """
    path = Path(path)
    return path.stem if path.suffix.lower() in SAFE + PICKLES else path.name


def sha256_of(path: Path, hashes: FileHashes = _READ_HERE) -> str:
    """A1111's hash of a checkpoint's file; for a folder, a hash over its files' names and hashes.

    In hexadecimal. A file is read once, and again only when it has changed.

    Args:
        hashes: of files that were read before.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_dir():
        return hashes.of(path)
    return folder_hash((name, hashes.of(part)) for name, part in files_of(path).items())


def files_of(folder: Path) -> dict[str, Path]:
    """The files of a folder in the diffusers layout, by their path in it: "unet/config.json"."""
    paths = (each for each in sorted(folder.rglob("*")) if each.suffix in _WEIGHING and each.is_file())
    found = {each.relative_to(folder).as_posix(): each for each in paths}
    return {name: each for name, each in found.items() if "/." not in f"/{name}"}  # the others are hidden


def folder_hash(files: Iterable[tuple[str, str]]) -> str:
    """The hash of a folder, from its files' paths and hashes."""
    digest = hashlib.sha256()
    for name, sha256 in sorted(files, key=lambda each: PurePosixPath(each[0])):
        digest.update(f"{name} {sha256}\n".encode())
    return digest.hexdigest()


def identity(sha256: str, vae_sha256: str | None) -> str:
    """What a model's name stands for: two workers with the same identity render the same picture.

    Args:
        vae_sha256: of the VAE in place of the checkpoint's own, where an image names none.
    """
    return sha256 if vae_sha256 is None else f"{sha256} with a VAE of {vae_sha256}"


def with_hashes(checkpoints: Iterable[Checkpoint], seconds: float = 5.0) -> list[Checkpoint]:
    """The same checkpoints, with the hashes of those that are on this machine.

    Begins to read no other after so many seconds (a folder of a hundred takes minutes): asked again, it goes
    on with those that are left.
    """
    end = time.monotonic() + seconds
    found = []
    for each in checkpoints:
        digest = each.sha256
        if digest is None and each.path is not None and time.monotonic() < end:
            with suppress(OSError):
                digest = sha256_of(each.path)
        found.append(replace(each, sha256=digest))
    return found


def checkpoints_in(folder: Path | None, *, pickles: bool = False) -> dict[str, Path]:
    """Name to path of the checkpoints in a folder and its folders, by name; no such folder, no checkpoints.

    In a folder of the folder, a name has that before it: "anime/dream". A1111's own tree of models and all of
    it in one folder are both read: what lies in its folders of other things is no checkpoint. Of one name, a
    folder comes before a file, and a .safetensors file before a pickle.
    """
    if folder is None:
        return {}
    found = [path for path in files_below(folder, (*SAFE, *PICKLES, INDEX)) if _is_among(path, folder)]
    folders = {path.parent for path in found if path.name == INDEX} - {folder}
    endings = SAFE + PICKLES if pickles else SAFE
    files = [path for path in found if is_checkpoint(path, endings) and folders.isdisjoint(path.parents)]
    paths = sorted(
        (*folders, *files), key=lambda path: (path.is_dir(), path.suffix.lower() in SAFE, path.name)
    )
    by_name = {_name_in(folder, path): path for path in paths}  # what comes later wins
    return dict(sorted(by_name.items()))


def is_checkpoint(path: Path, endings: tuple[str, ...] = SAFE) -> bool:
    """Whether a path looks like a checkpoint: a diffusers folder, or a file with one of `endings`."""
    name = path.name.lower()
    if name.startswith(".") or name.endswith(VAES):
        return False
    return (path / INDEX).is_file() or (name.endswith(endings) and path.is_file())


def _is_among(path: Path, folder: Path) -> bool:
    """Whether a file is in a place for checkpoints, and not in one of A1111's folders for other things."""
    inside = [part.lower() for part in path.relative_to(folder).parts[:-1]]
    return not inside or inside[0] not in _OF_OTHERS


def _name_in(folder: Path, path: Path) -> str:
    parts = path.relative_to(folder).parent.parts
    if parts and parts[0].lower() == A1111_FOLDER:
        parts = parts[1:]
    return "/".join((*parts, checkpoint_name(path)))
