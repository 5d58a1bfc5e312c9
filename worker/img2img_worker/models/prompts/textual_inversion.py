"""Textual inversions: words whose embeddings come from files, found in prompts as A1111 finds them."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from img2img_shared.errors import Refused
from img2img_shared.model_folders import files_below
from img2img_worker.models.kind_folders import kind_folders
from img2img_worker.models.pinned_files import NOTHING_PINNED, PinnedFiles
from img2img_worker.models.prompts.attention import pieces_of
from img2img_worker.models.prompts.inversion_file import (
    ENDINGS,
    XL_PARTS,
    InversionFile,
    about_file,
    checked_parts,
    joined,
    read_file,
)

#: the folder for them: in a folder of models or, in an A1111 tree, beside it
FOLDER = "embeddings"
#: how many combinations of LoRAs' textual inversions are cached
_BUNDLES = 64


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
        """Number of tokens that it takes the place of."""
        return len(self.vectors[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Skipped:
    """An inversion that the checkpoint cannot use."""

    reason: str
    #: what is in its file; None: that cannot be read
    file: InversionFile | None = None


@dataclass(frozen=True, kw_only=True)
class Inversions:
    """The textual inversions that are known at one moment."""

    loaded: Mapping[str, Inversion] = field(default_factory=dict)
    skipped: Mapping[str, Skipped] = field(default_factory=dict)
    #: from the first token of a name to the tokens of all names that begin with it, the longest first
    by_token: Mapping[int, Sequence[tuple[list[int], Inversion]]] = field(default_factory=dict)
    #: identifies the files' contents: equal if these are
    key: Hashable = ()

    def at(self, tokens: Sequence[int], position: int) -> tuple[Inversion, int] | None:
        """The inversion whose name begins at `position`, and the number of tokens of its name."""
        for name, inversion in self.by_token.get(tokens[position], ()):
            if list(tokens[position : position + len(name)]) == name:
                return inversion, len(name)
        return None


class TextualInversions:
    """Those in some folders that fit a checkpoint; read with the first prompt, and again if files change.

    Args:
        tokenize: gives a name's tokens, as a prompt would have them.
        widths: dimensions of an embedding, for each text encoder.
        bundled: for a LoRA's name, a key that changes with its file, and the inversions in that by name.
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
        #: by what they are combined from
        self._with_bundles: OrderedDict[Hashable, Inversions] = OrderedDict()

    def current(self, bundles: Sequence[str] = (), pinned: PinnedFiles = NOTHING_PINNED) -> Inversions:
        """The inversions in files as they are now, and those in LoRAs; a file's name goes before a LoRA's.

        Args:
            bundles: the LoRAs' names.
            pinned: the files that names stand for, before those in the folders.

        Raises:
            Refused: a LoRA is missing, or an inversion in it is not for this checkpoint.
        """
        found = self._in_folders()
        parts = [(lora, *self._bundled(lora, pinned)) for lora in bundles]
        parts = [part for part in parts if part[2]]
        own = [(name, about_file(path)) for name, path in pinned.of("embedding").items()]
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
            known = self._by_tokens(loaded, skipped, key)
            self._with_bundles[key] = known
            if len(self._with_bundles) > _BUNDLES:
                self._with_bundles.popitem(last=False)
        return known

    def _of_bundle(self, lora: str, name: str, data: Any) -> Inversion:
        try:
            return self._fit(InversionFile(name=name, parts=checked_parts(data), step=None, short_hash=lora))
        except ValueError as error:
            raise Refused(
                "lora", lora, f"textual inversion {name} in it: {error}; use another file"
            ) from None

    def _in_folders(self) -> Inversions:
        files: list[tuple[Path, int, int]] = []
        for folder in self._folders:
            for path in files_below(folder, ENDINGS):
                with suppress(OSError):
                    if (about := about_file(path))[2]:
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
    ) -> list[tuple[str, str]]:
        """The name and A1111's short hash of each inversion in texts, in order of appearance. Thread-safe.

        As in A1111, they are told once for each text encoder; the hash of one in a LoRA is the LoRA's name.

        Args:
            texts: those of the schedules, so with edits written out.
        """
        found = self._mentioned(self.current(bundles, pinned), texts, emphasis)
        by_name = {each.name: each.short_hash for each in found}
        return [*by_name.items()] * len(self._widths)

    def lacking(self, names: Iterable[str], texts: Iterable[str], emphasis: str = "Original") -> list[str]:
        """Those of `names` that are in texts (edits written out) but not known here. Thread-safe."""
        known = self.current()
        others = {name: Inversion(name=name, vectors=(), short_hash="") for name in names}
        if others.keys() <= known.loaded.keys():
            return []
        of_all = self._by_tokens({**others, **known.loaded}, {}, ())
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
        skipped: dict[str, Skipped] = {}
        for about in files:
            self._add(*about, loaded, skipped)
        return self._by_tokens(loaded, skipped, files)

    def _add(
        self,
        path: Path,
        modified: int,
        size: int,
        loaded: dict[str, Inversion],
        skipped: dict[str, Skipped],
        called: str | None = None,
    ) -> None:
        """Add a file to `loaded`, as `called` or by its own name; or to `skipped`, with the reason."""
        name, file = called or path.stem, None
        try:
            file = read_file(path, modified, size)
            if file is None:
                return
            name = called or file.name
            loaded[name] = self._fit(replace(file, name=name))
        except (ValueError, OSError) as error:
            skipped[name] = Skipped(reason=str(error), file=file)

    def _by_tokens(
        self, loaded: Mapping[str, Inversion], skipped: Mapping[str, Skipped], key: Hashable
    ) -> Inversions:
        by_token: dict[int, list[tuple[list[int], Inversion]]] = {}
        for name, inversion in loaded.items():
            tokens = self._tokenize(name)
            if tokens:
                by_token.setdefault(tokens[0], []).append((tokens, inversion))
        for names in by_token.values():
            names.sort(key=lambda each: len(each[0]), reverse=True)
        return Inversions(loaded=loaded, skipped=skipped, by_token=by_token, key=key)

    def _fit(self, file: InversionFile) -> Inversion:
        """A file's inversion for this checkpoint's text encoders.

        Raises:
            ValueError: it is for another kind of checkpoint.
        """
        parts = file.parts
        vectors = (
            tuple(parts[part] for part in XL_PARTS)
            if parts.keys() == set(XL_PARTS)
            else tuple(parts.values())
        )
        widths = tuple(part.shape[-1] for part in vectors)
        if widths != self._widths:
            raise ValueError(
                f"vectors of {joined(widths)}, and this checkpoint's are of {joined(self._widths)}"
            )
        return Inversion(name=file.name, vectors=vectors, step=file.step, short_hash=file.short_hash)


def inversion_folders(models_dir: Path | None) -> tuple[Path, ...]:
    """Where textual inversions are looked for, given a folder of models."""
    return kind_folders(models_dir, FOLDER, FOLDER)
