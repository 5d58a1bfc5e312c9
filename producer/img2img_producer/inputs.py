"""Turns users' inputs into pictures to submit: files, folders, globs, bytes, pairs, dicts."""

import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from img2img_shared.errors import Refused
from img2img_shared.input_fields import sort_fields

#: what counts as a picture in a folder or a glob; a file that is named is taken whatever it is called
EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".gif"}
)
#: pictures that are read where a plug-in of the extra "photos" is: the format, and the plug-in's module
PLUGINS = {
    ".heic": ("HEIC", "pillow_heif"),
    ".heif": ("HEIC", "pillow_heif"),
    ".hif": ("HEIC", "pillow_heif"),
    ".jxl": ("JPEG XL", "pillow_jxl"),
}
#: what people name whose frames are meant, and the way to these
VIDEOS = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm"))
OF_VIDEO = "a video; render its frames: ffmpeg -i VIDEO FOLDER/%05d.png"
#: bytes; nothing that decodes within the farm's pixel limit is larger
LARGEST = 256 * 1024 * 1024

#: encoded bytes of a picture, or the file that holds them
Source = str | Path | bytes


@dataclass(init=False)
class Picture:
    """One input with its own parameters; what is left out, or None, is taken from the job.

    >>> Picture(image="portrait.jpg", mask="face.png", prompt="an oil painting", seed=7, steps=30).params
    {'prompt': 'an oil painting', 'seed': 7, 'steps': 30}

    Args:
        image: the picture to repaint; None: the job's, or txt2img.
        mask: the part to repaint, in white.
        pictures: these and others by their roles ("control/0", "control/1", ...: for control units).
        params: any parameters, except those of the whole job (`images_per_input`, `output_format`).
        name: what its outputs are called; None: the image's stem.
        folder: where they go below the results' folder.
        parameters: the same as `params`, by name.
    """

    pictures: dict[str, Source]
    params: dict[str, Any]
    name: str | None
    folder: str | None

    def __init__(
        self,
        *,
        image: Source | None = None,
        mask: Source | None = None,
        pictures: Mapping[str, Source] | None = None,
        params: Mapping[str, Any] | None = None,
        name: str | None = None,
        folder: str | None = None,
        **parameters: Any,
    ) -> None:
        named = {"image": image, "mask": mask, **(pictures or {})}
        self.pictures = {role: source for role, source in named.items() if source is not None}
        given = {**(params or {}), **parameters}
        self.params = {name: value for name, value in given.items() if value is not None}
        self.name = name
        self.folder = folder

    @property
    def image(self) -> Source | None:
        """The picture to repaint."""
        return self.pictures.get("image")

    @property
    def label(self) -> str | None:
        """Its name: the one given, or the file's stem; None for bytes."""
        if self.name is not None:
            return self.name
        if self.image is None or isinstance(self.image, bytes):
            return None
        return _as_text(Path(self.image).stem)[:255] or None

    @property
    def path(self) -> str | None:
        """The path of its image's file, as it was given; None for bytes."""
        if self.image is None or isinstance(self.image, bytes):
            return None
        return _as_text(str(self.image))[:4096] or None


def as_picture(item: object, index: int) -> Picture:
    """A `Picture` from any of the forms a user may write: itself, a path, bytes, (image, mask), a dict.

    A dict has pictures by role, parameters by name, `name` and `folder`.

    Raises:
        Refused: names ``inputs[index]`` and the allowed forms.
    """
    match item:
        case Picture():
            found = item
        case str() | Path() | bytes():
            found = Picture(image=item)
        case bytearray() | memoryview():
            found = Picture(image=bytes(item))
        case (image, mask):
            return as_picture({"image": image, "mask": mask}, index)
        case Mapping():
            try:
                found = Picture(**vars(sort_fields(item)))
            except Refused as error:
                raise error.under(f"inputs[{index}].") from None
        case _:
            reason = "give a path, bytes, (image, mask), a Picture, or a dict of its fields"
            raise Refused(f"inputs[{index}]", item, reason)
    for role, source in found.pictures.items():
        if not isinstance(source, str | Path | bytes):
            raise Refused(f"inputs[{index}].{role}", source, "give a path or the bytes of a picture")
    return found


def read_source(source: Source, field: str) -> bytes:
    """The encoded bytes of an image or a mask. Only the worker checks that they are a picture.

    Raises:
        Refused: names `field`; no such file, no right to read it, too large, a pipe or a device.
    """
    if isinstance(source, bytes):
        if len(source) > LARGEST:
            raise Refused(field, source, f"give at most {LARGEST:,} bytes")
        return source
    path = Path(source)
    try:
        if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
            raise Refused(field, str(source), "give a regular file; a pipe or a device may never end")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Refused(
            field, str(source), f"cannot be read ({error.strerror}); give a file that can"
        ) from None
    if len(data) > LARGEST:
        raise Refused(field, str(source), f"give a file of at most {LARGEST:,} bytes")
    return data


def find_pictures(names: Iterable[str | Path]) -> list[Path]:
    """The files meant by files, folders (their pictures, not deeper) and globs (``**`` goes deeper).

    Files of a folder or a glob come in natural order (``img2`` before ``img10``), hidden ones left out.

    Raises:
        Refused: nothing was named, a file is missing, or a folder or glob contains no picture.
    """
    found = [path for name in names for path in _expand(str(name))]
    if not found:
        raise Refused("inputs", [], "give at least one picture: files, folders or globs")
    return found


def find_paired(pictures: Iterable[Path], folder: Path, field: str, noun: str) -> list[Path]:
    """For each picture, the one in `folder` with the same stem.

    Args:
        field, noun: names for the folder, and for its pictures, in refusals.

    Raises:
        Refused: no such folder, or a picture without one in it, or with two.
    """
    if not folder.is_dir():
        raise Refused(field, str(folder), f"no such folder; give one with a {noun} for each picture")
    by_stem: dict[str, list[Path]] = {}
    for path in pictures_among(folder.iterdir()):
        by_stem.setdefault(path.stem, []).append(path)
    paired, alone = [], []
    for picture in pictures:
        candidates = by_stem.get(picture.stem, [])
        if len(candidates) == 1:
            paired.append(candidates[0])
        else:
            alone.append((picture, ", ".join(path.name for path in candidates) or "none"))
    if alone:
        (picture, seen), *others = alone
        reason = f"put one {noun} named {picture.stem}.* there for {picture} (found: {seen})"
        if others:
            names = ", ".join(other.name for other, _ in others[:10])
            more = ", ..." if len(others) > 10 else ""
            reason += f"; the same goes for {len(others):,} more: {names}{more}"
        raise Refused(field, str(folder), reason)
    return paired


def pictures_among(paths: Iterable[Path]) -> list[Path]:
    """The files with names of pictures, in natural order, without hidden ones."""
    wanted = (
        path for path in paths if _is_picture(path) and not path.name.startswith(".") and path.is_file()
    )
    return sorted(wanted, key=_natural)


def _is_picture(path: Path) -> bool:
    """Whether a file's name is that of a picture in a format that can probably be read."""
    ending = path.suffix.lower()
    return ending in EXTENSIONS or (ending in PLUGINS and find_spec(PLUGINS[ending][1]) is not None)


def _as_text(name: str) -> str:
    """A file name as text: bytes that are not text are shown as "?"."""
    return name.encode("utf-8", "replace").decode()


def _expand(name: str) -> Iterator[Path]:
    path = Path(name).expanduser()
    if not name.strip():  # an unset variable of a script: the working folder is not what it means
        raise Refused("inputs", name, "no such file or folder; give a picture, a folder or a glob")
    if path.is_dir():
        yield from _check_some(
            pictures_among(path.iterdir()), name, "it holds no pictures; give a folder with some"
        )
    elif path.suffix.lower() in VIDEOS and path.is_file():
        raise Refused("inputs", name, f"it is {OF_VIDEO}")
    elif path.exists():
        yield path
    elif re.search(r"[*?[]", name):
        matches = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        yield from _check_some(pictures_among(matches), name, "it matches no pictures; give a glob that does")
    else:
        raise Refused("inputs", name, "no such file or folder; give a picture, a folder or a glob")


def _check_some(paths: list[Path], name: str, wanted: str) -> list[Path]:
    if not paths:
        raise Refused("inputs", name, f"{wanted} ({', '.join(sorted(EXTENSIONS))})")
    return paths


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """A sort key that compares numbers within a name by their value."""
    parts = re.split(r"(\d+)", str(path).lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
