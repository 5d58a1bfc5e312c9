"""What a user calls an input, turned into pictures to submit: files, folders, globs, bytes, pairs, dicts."""

import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from img2img_shared.errors import Refused

#: what counts as a picture in a folder or a glob; a file that is named is taken whatever it is called
EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".gif"}
)
#: bytes; nothing that decodes within the farm's pixel limit is larger
LARGEST = 256 * 1024 * 1024

#: encoded bytes of a picture, or the file that holds them
Source = str | Path | bytes


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One init image with what is its own; what is None is the job's.

    >>> Picture(image="portrait.jpg", mask="face.png", prompt="an oil painting", seed=7)  # doctest: +ELLIPSIS
    Picture(image='portrait.jpg', ...)
    """

    image: Source
    mask: Source | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    #: 0 and up
    seed: int | None = None
    #: how its outputs are called; None: the file's stem
    name: str | None = None

    @property
    def label(self) -> str | None:
        """The name it goes by: the one given, else the file's stem; None for bytes."""
        if self.name is not None:
            return self.name
        if isinstance(self.image, bytes):
            return None
        # a file name need not be text: what is not is shown as "?"
        return Path(self.image).stem.encode("utf-8", "replace").decode()[:255] or None


def as_picture(item: object, index: int) -> Picture:
    """A `Picture` from any of the forms a user may write: itself, a path, bytes, (image, mask), a dict.

    Raises:
        Refused: names ``inputs[index]`` and the forms.
    """
    match item:
        case Picture():
            return item
        case str() | Path() | bytes():
            return Picture(image=item)
        case bytearray() | memoryview():
            return Picture(image=bytes(item))
        case (image, mask):
            return _picture({"image": image, "mask": mask}, index)
        case Mapping():
            return _picture(item, index)
    raise Refused(
        f"inputs[{index}]", item, "a path, bytes, (image, mask), a Picture, or a dict of its fields"
    )


def read_source(source: Source, field: str) -> bytes:
    """The encoded bytes of an image or a mask. Whether they are a picture, the worker sees.

    Raises:
        Refused: names `field`; no such file, no right to read it, too large, a pipe or a device.
    """
    if isinstance(source, bytes):
        if len(source) > LARGEST:
            raise Refused(field, f"{len(source)} bytes", f"at most {LARGEST} bytes")
        return source
    path = Path(source)
    try:
        if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
            raise Refused(field, str(source), "a file; a pipe or a device could keep us waiting for ever")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Refused(field, str(source), f"a file that can be read ({error.strerror})") from None
    if len(data) > LARGEST:
        raise Refused(field, str(source), f"a file of at most {LARGEST} bytes")
    return data


def find_pictures(names: Iterable[str | Path]) -> list[Path]:
    """The files meant by files, folders (their pictures, not deeper) and globs (``**`` goes deeper).

    Files of a folder or a glob come in natural order (``img2`` before ``img10``), hidden ones left out.

    Raises:
        Refused: nothing was named, a file is missing, a folder or glob holds no picture.
    """
    found = [path for name in names for path in _expanded(str(name))]
    if not found:
        raise Refused("inputs", [], "at least one picture: files, folders or globs")
    return found


def find_masks(pictures: Iterable[Path], folder: Path) -> list[Path]:
    """For each picture the mask in `folder` of the same stem.

    Raises:
        Refused: no such folder, or a picture without a mask, or with two.
    """
    if not folder.is_dir():
        raise Refused("mask_dir", str(folder), "a folder that exists")
    by_stem: dict[str, list[Path]] = {}
    for path in _pictures_among(folder.iterdir()):
        by_stem.setdefault(path.stem, []).append(path)
    masks = []
    for picture in pictures:
        candidates = by_stem.get(picture.stem, [])
        if len(candidates) != 1:
            seen = ", ".join(path.name for path in candidates) or "none"
            raise Refused(
                "mask_dir", str(folder), f"one mask called {picture.stem}.* for {picture} (found: {seen})"
            )
        masks.append(candidates[0])
    return masks


def _expanded(name: str) -> Iterator[Path]:
    path = Path(name).expanduser()
    if not name.strip():  # an unset variable of a script: the working folder is not what it means
        raise Refused("inputs", name, "a file, folder or glob that exists")
    if path.is_dir():
        yield from _some(_pictures_among(path.iterdir()), name, "a folder that holds pictures")
    elif path.exists():
        yield path
    elif re.search(r"[*?[]", name):
        matches = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        yield from _some(_pictures_among(matches), name, "a glob that matches pictures")
    else:
        raise Refused("inputs", name, "a file, folder or glob that exists")


def _some(paths: list[Path], name: str, wanted: str) -> list[Path]:
    if not paths:
        raise Refused("inputs", name, f"{wanted} ({', '.join(sorted(EXTENSIONS))})")
    return paths


def _pictures_among(paths: Iterable[Path]) -> list[Path]:
    wanted = (
        path
        for path in paths
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )
    return sorted(wanted, key=_natural)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key: numbers within a name by their value."""
    parts = re.split(r"(\d+)", str(path).lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _picture(values: Mapping[Any, Any], index: int) -> Picture:
    known = [field.name for field in fields(Picture)]
    if unknown := [key for key in values if key not in known]:
        raise Refused(f"inputs[{index}]", unknown[0], f"only {', '.join(known)}")
    if not isinstance(values.get("image"), str | Path | bytes):
        raise Refused(f"inputs[{index}].image", values.get("image"), "a path, or a picture's bytes")
    if not isinstance(values.get("mask"), str | Path | bytes | None):
        raise Refused(f"inputs[{index}].mask", values.get("mask"), "a path, a picture's bytes, or None")
    return Picture(**values)
