"""Textual inversions: words whose embeddings lie in files, found in prompts as A1111 finds them."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from img2img_shared.checkpoints import is_a1111_tree, sha256_of
from img2img_shared.errors import Refused
from img2img_shared.model_folders import files_below
from img2img_worker.models.pickles import load_pickle
from img2img_worker.models.pinned_files import NOTHING_PINNED, PinnedFiles
from img2img_worker.models.prompts import inversion_picture
from img2img_worker.models.prompts.attention import pieces_of

#: A1111's folder of them: below its models where all lie in one folder, beside them in its own tree
FOLDER = "embeddings"
ENDINGS = (".safetensors", ".pt", ".bin", *inversion_picture.ENDINGS)
#: how many sets of LoRAs' textual inversions are remembered
_BUNDLES = 64
#: vectors that fit into one chunk of a prompt
MOST_VECTORS = 75
#: what files for SDXL call the vectors of its text encoders, in the encoders' order
_XL = ("clip_l", "clip_g")
#: digits of a hash in an infotext
_SHORT = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class Inversion:
    """One file's vectors."""

    name: str
    #: for each text encoder, float32 [n, width]
    vectors: tuple[Tensor, ...]
    short_hash: str
    step: int | None = None

    @property
    def length(self) -> int:
        """Tokens that it takes the place of."""
        return len(self.vectors[0])


@dataclass(frozen=True, kw_only=True)
class Inversions:
    """The files of a moment."""

    loaded: Mapping[str, Inversion] = field(default_factory=dict)
    #: name to the reason why the checkpoint has no use for it
    skipped: Mapping[str, str] = field(default_factory=dict)
    #: first token of a name to the whole names that begin with it, the longest first
    by_token: Mapping[int, Sequence[tuple[list[int], Inversion]]] = field(default_factory=dict)
    #: what was read: equal where the files are the same
    key: Hashable = ()

    def at(self, tokens: Sequence[int], position: int) -> tuple[Inversion, int] | None:
        """The one whose name's tokens begin there, and how many those are."""
        for name, inversion in self.by_token.get(tokens[position], ()):
            if list(tokens[position : position + len(name)]) == name:
                return inversion, len(name)
        return None


class TextualInversions:
    """Those in some folders that fit a checkpoint, read when prompts are, and again when files have changed.

    Args:
        tokenize: a name's tokens, as a prompt's.
        widths: dimensions of a token, of each text encoder.
        bundled: what comes with a LoRA of that name, and what is another where its file is.
    """

    def __init__(
        self,
        folders: Iterable[Path] = (),
        tokenize: Callable[[str], list[int]] = lambda _: [],
        widths: Sequence[int] = (),
        bundled: Callable[[str, PinnedFiles], tuple[Hashable, Mapping[str, Any]]] = lambda *_: ((), {}),
    ) -> None:
        self._bundled = bundled
        self._folders = tuple(folders)
        self._tokenize = tokenize
        self._widths = tuple(widths)
        self._found = Inversions()
        #: by what it was put together from
        self._with_bundles: OrderedDict[Hashable, Inversions] = OrderedDict()

    def current(self, bundles: Sequence[str] = (), pinned: PinnedFiles = NOTHING_PINNED) -> Inversions:
        """The files as they are now, and what comes with LoRAs: of one name, the file.

        Args:
            bundles: the LoRAs' names.
            pinned: which files are meant by names, in place of the folders'.

        Raises:
            Refused: a LoRA is not there, or what comes with it is not for this checkpoint.
        """
        found = self._in_folders()
        parts = [(lora, *self._bundled(lora, pinned)) for lora in bundles]
        parts = [part for part in parts if part[2]]
        own = [(name, _about(path)) for name, path in pinned.of("embedding").items()]
        if not parts and not own:
            return found
        key = found.key, tuple(about for _, about, _ in parts), tuple(own)
        known = self._with_bundles.get(key)
        if known is None:
            loaded, skipped = dict(found.loaded), dict(found.skipped)
            for name, about in own:
                self._add(*about, loaded, skipped, name)
            for lora, _, bundle in parts:
                for name, data in bundle.items():
                    loaded.setdefault(name, self._of_bundle(lora, name, data))
            known = self._named(loaded, skipped, key)
            self._with_bundles[key] = known
            if len(self._with_bundles) > _BUNDLES:
                self._with_bundles.popitem(last=False)
        return known

    def _of_bundle(self, lora: str, name: str, data: Any) -> Inversion:
        try:
            return self._fitted(_File(name=name, parts=_checked_parts(data), step=None, short_hash=lora))
        except ValueError as error:
            raise Refused(
                "lora", lora, f"textual inversion {name} in it: {error}; use another file"
            ) from None

    def _in_folders(self) -> Inversions:
        files: list[tuple[Path, int, int]] = []
        for folder in self._folders:
            for path in files_below(folder, ENDINGS):
                with suppress(OSError):
                    if (about := _about(path))[2]:
                        files.append(about)
        if tuple(files) != self._found.key:
            self._found = self._read(tuple(files))
        return self._found

    def hashes(
        self,
        texts: Iterable[str],
        emphasis: str = "Original",
        bundles: Sequence[str] = (),
        pinned: PinnedFiles = NOTHING_PINNED,
    ) -> dict[str, str]:
        """A1111's short hash of each that texts (edits written out) name, in order; thread-safe.

        Of one that comes with a LoRA, that one's name, as in A1111.
        """
        found = self._mentioned(self.current(bundles, pinned), texts, emphasis)
        return {each.name: each.short_hash for each in found}

    def lacking(self, names: Iterable[str], texts: Iterable[str], emphasis: str = "Original") -> list[str]:
        """Those of `names` that texts (edits written out) name, and that are not here; thread-safe."""
        known = self.current()
        others = {name: Inversion(name=name, vectors=(), short_hash="") for name in names}
        if others.keys() <= known.loaded.keys():
            return []
        of_all = self._named({**others, **known.loaded}, {}, ())
        mentioned = {each.name for each in self._mentioned(of_all, texts, emphasis)}
        return sorted(mentioned - known.loaded.keys())

    def _mentioned(self, known: Inversions, texts: Iterable[str], emphasis: str) -> Iterator[Inversion]:
        if not known.by_token:
            return
        for tokens in (self._tokenize(piece) for text in texts for piece, _ in pieces_of(text, emphasis)):
            position = 0
            while position < len(tokens):
                inversion, length = known.at(tokens, position) or (None, 1)
                if inversion is not None:
                    yield inversion
                position += length

    def _read(self, files: tuple[tuple[Path, int, int], ...]) -> Inversions:
        loaded: dict[str, Inversion] = {}
        skipped: dict[str, str] = {}
        for about in files:
            self._add(*about, loaded, skipped)
        return self._named(loaded, skipped, files)

    def _add(
        self,
        path: Path,
        modified: int,
        size: int,
        loaded: dict[str, Inversion],
        skipped: dict[str, str],
        called: str | None = None,
    ) -> None:
        """What is in a file to `loaded`, by the name that it is `called` or has; or why not to `skipped`."""
        name = called or path.stem
        try:
            file = _read_file(path, modified, size)
            if file is None:
                return
            name = called or file.name
            loaded[name] = self._fitted(replace(file, name=name))
        except (ValueError, OSError) as error:
            skipped[name] = str(error)

    def _named(
        self, loaded: Mapping[str, Inversion], skipped: Mapping[str, str], key: Hashable
    ) -> Inversions:
        by_token: dict[int, list[tuple[list[int], Inversion]]] = {}
        for name, inversion in loaded.items():
            tokens = self._tokenize(name)
            if tokens:
                by_token.setdefault(tokens[0], []).append((tokens, inversion))
        for names in by_token.values():
            names.sort(key=lambda each: len(each[0]), reverse=True)
        return Inversions(loaded=loaded, skipped=skipped, by_token=by_token, key=key)

    def _fitted(self, file: "_File") -> Inversion:
        """
        Raises:
            ValueError: it is for another kind of checkpoint.
        """
        parts = file.parts
        vectors = tuple(parts[part] for part in _XL) if parts.keys() == set(_XL) else tuple(parts.values())
        widths = tuple(part.shape[-1] for part in vectors)
        if widths != self._widths:
            raise ValueError(
                f"vectors of {_joined(widths)}, and this checkpoint's are of {_joined(self._widths)}"
            )
        return Inversion(name=file.name, vectors=vectors, step=file.step, short_hash=file.short_hash)


@dataclass(frozen=True, kw_only=True)
class _File:
    """What is in one, whichever checkpoint it is for."""

    #: its file's, or what a picture says
    name: str
    #: float32 [n, width] by text encoder ("": of the only one)
    parts: Mapping[str, Tensor]
    step: int | None
    short_hash: str


def folders_for(models_dir: Path | None) -> tuple[Path, ...]:
    """Where textual inversions lie for a folder of models."""
    if models_dir is None:
        return ()
    beside = (models_dir.parent / FOLDER,) if is_a1111_tree(models_dir) else ()
    return (models_dir / FOLDER, *beside)


@lru_cache(maxsize=4096)
def _read_file(path: Path, _modified: int, _size: int) -> _File | None:
    """None: a picture that shows something and holds nothing.

    Raises:
        ValueError: no textual inversion.
        OSError: it cannot be read.
    """
    data: Any = _read_data(path)
    if data is None:
        return None
    parts = _checked_parts(data)
    step = data.get("step")
    says = data.get("name") if path.suffix.lower() in inversion_picture.ENDINGS else None
    return _File(
        name=says if isinstance(says, str) and says else path.stem,
        parts=parts,
        step=step if isinstance(step, int) else None,
        short_hash=sha256_of(path)[:_SHORT],
    )


def _about(path: Path) -> tuple[Path, int, int]:
    """A file's path, time and size.

    Raises:
        OSError: it is not there.
    """
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size


def _read_data(path: Path) -> Any:
    ending = path.suffix.lower()
    if ending in inversion_picture.ENDINGS:
        return inversion_picture.read_picture(path)
    try:
        if ending == ".safetensors":
            return load_file(path)
        return load_pickle(path, also=[nn.ParameterDict])  # which is what the oldest trainer saved
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"not readable ({error})") from None


def _checked_parts(data: Any) -> Mapping[str, Tensor]:
    parts = {part: _vectors(vectors) for part, vectors in _parts(data).items()}
    lengths = {len(vectors) for vectors in parts.values()}
    if len(lengths) != 1 or not 1 <= max(lengths) <= MOST_VECTORS:
        raise ValueError(f"1 to {MOST_VECTORS} vectors are read, not {_joined(sorted(lengths))}")
    return parts


def _parts(data: Any) -> Mapping[str, Any]:
    if isinstance(data, dict) and "string_to_param" in data:  # A1111's own
        data = data["string_to_param"]
        data = dict(data) if isinstance(data, nn.ParameterDict) else data
    elif isinstance(data, dict) and data.keys() >= set(_XL):
        return {part: data[part] for part in _XL}
    if not isinstance(data, dict) or len(data) != 1:
        raise ValueError("not one textual inversion")
    return {"": next(iter(data.values()))}


def _vectors(found: Any) -> Tensor:
    if not isinstance(found, Tensor) or found.ndim not in (1, 2) or not found.is_floating_point():
        raise ValueError("not one textual inversion")
    vectors = found.detach().float()
    if not vectors.isfinite().all():
        raise ValueError("numbers that are not finite")
    return vectors[None] if vectors.ndim == 1 else vectors


def _joined(numbers: Iterable[int]) -> str:
    return " and ".join(map(str, numbers))
