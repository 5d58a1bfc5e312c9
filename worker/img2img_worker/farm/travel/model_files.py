"""Finds the files that jobs name: in a worker's own folder, or fetched from the store."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from img2img_shared.checkpoints import INDEX, Checkpoint, checkpoints_in, files_of
from img2img_shared.errors import FarmError, Refused, StoreError, Unavailable
from img2img_shared.file_hashes import FileHashes
from img2img_shared.model_folders import files_below
from img2img_shared.pushed_models.download import PartsGiver
from img2img_shared.pushed_models.local_model import files_beside, weights_in
from img2img_shared.pushed_models.model_index import ModelIndex
from img2img_shared.pushed_models.model_objects import ModelObjects
from img2img_shared.pushed_models.pushed_model import KINDS, ModelKind, PushedModel
from img2img_shared.settings import Settings
from img2img_worker.farm.travel.model_cache import CachedModel, ModelCache, Pause
from img2img_worker.models.checkpoints import catalog
from img2img_worker.models.pinned_files import PinnedFiles

#: served where nobody says what, and neither the folder of models nor the store has any
DEFAULT = "demo"
#: seconds between two looks at a file that somebody else fetches, and before what failed is tried again
LOOK = 0.2
#: bytes of a textual inversion, at most
_SMALL = 64 * 1024 * 1024
#: times that one piece of a checkpoint is asked for
_TRIES = 10


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint on this machine."""

    path: Path
    #: keeps it there, if it was fetched
    held: CachedModel | None = None


class ModelFiles:
    """The files of one worker process; thread-safe.

    Args:
        hashes: of files that were read before.
        stopping: set when the worker ends, which interrupts a fetch; the next one continues it.
    """

    def __init__(
        self,
        *,
        index: ModelIndex,
        objects: ModelObjects,
        settings: Settings,
        hashes: FileHashes,
        stopping: threading.Event,
    ) -> None:
        self._index = index
        self._objects = objects
        self._settings = settings
        self._hashes = hashes
        self._stopping = stopping
        folder = settings.model_cache or settings.data_dir / "models"
        self._known: Collection[PushedModel] = ()
        self._fetched: tuple[str, ...] = ()
        self._cache = ModelCache(folder, int(settings.model_cache_size * 2**30))

    @property
    def giver(self) -> PartsGiver:
        """The source of the files' bytes."""
        return self._objects

    @property
    def fetched(self) -> tuple[str, ...]:
        """Contents hashes of the fetched models on this machine, as last listed."""
        with suppress(OSError):  # a worker says that it lives whatever its disk says
            self._fetched = tuple(sorted(self._cache.hashes))
        return self._fetched

    def names(self, kind: ModelKind) -> list[str]:
        """What jobs may call pushed files of a kind."""
        return [name for each in self._pushed() if each.kind == kind for name in each.listed_as]

    @contextmanager
    def inversions(self) -> Iterator[PinnedFiles]:
        """The pushed textual inversions; these are small, and are fetched in order to announce their
        contents.

        One that cannot be fetched now is left out.
        """
        named = {each.name: each for each in sorted(self._pushed(), key=lambda each: each.pushed)}
        with ExitStack() as holding:
            found: list[tuple[ModelKind, str, Path]] = []
            for name, each in named.items():
                if each.kind == "embedding" and each.total <= _SMALL:
                    with suppress(FarmError):
                        held = self._fetch(each, self._objects, self._pause)
                        holding.callback(held.close)
                        found.append(("embedding", name, held.path))
            yield PinnedFiles(tuple(found))

    def served(self, models: Collection[str]) -> Mapping[str, str]:
        """Names of the checkpoints that a worker serves, with the names of their files.

        Args:
            models: their names; none: all that the folder has now, and all that were pushed.
        """
        settings = self._settings
        found = checkpoints_in(settings.models_dir, pickles=settings.allow_pickles)
        local = {name: path.name for name, path in found.items()}
        pushed = {each.model: each.file_name for each in self._pushed() if each.kind == "checkpoint"}
        if models:
            known = local | pushed
            return {name: known.get(name, name.rpartition("/")[2]) for name in models}
        return local | pushed or {DEFAULT: DEFAULT}

    def check(self, model: str) -> None:
        """Check that there is a checkpoint of that name, here or in the store.

        Raises:
            Refused: there is none.
        """
        if self._pushed_checkpoint(model) is None:
            catalog.find_model(model, self._settings.models_dir)

    def checkpoint(self, model: str) -> FoundCheckpoint:
        """The checkpoint that the farm means by a name; a pushed one is fetched if it is not here.

        Raises:
            Refused: there is none.
            WorkerError: the pushed file is damaged, or there is no room for it.
            Unavailable: the worker ends.
        """
        pushed = self._pushed_checkpoint(model)
        if pushed is None:
            return FoundCheckpoint(catalog.find_model(model, self._settings.models_dir))
        if (path := self._own(pushed)) is not None:
            return FoundCheckpoint(path)
        held = self._fetch(pushed, _Patient(self._objects, self._pause), self._pause)
        return FoundCheckpoint(held.path, held)

    def other(self, wanted: str) -> tuple[Checkpoint, FoundCheckpoint]:
        """A checkpoint that an image wants besides the worker's own, by a name, a title or a hash.

        Raises:
            Refused, WorkerError, Unavailable: like `checkpoint`.
        """
        if (pushed := self._pushed_checkpoint(wanted)) is not None:
            found = self.checkpoint(wanted)
            told = Checkpoint(model=wanted, file_name=pushed.file_name, sha256=pushed.sha256, path=found.path)
            return told, found
        local = catalog.find_other(wanted, self._settings.models_dir)
        return local, self.checkpoint(local.model)

    @property
    def others(self) -> list[str]:
        """Names of the checkpoints that images may use besides the served one."""
        settings = self._settings
        if not settings.other_checkpoints:
            return []
        known = checkpoints_in(settings.models_dir, pickles=settings.allow_pickles)
        return [*{**known, **dict.fromkeys(self.served(()))}.keys() - ({DEFAULT} - known.keys())]

    def other_title(self, wanted: str) -> str:
        """Name and short hash of such a checkpoint.

        Raises:
            Refused: there is none.
        """
        pushed = self._pushed_checkpoint(wanted)
        if pushed is not None:
            return pushed.title
        local = catalog.find_other(wanted, self._settings.models_dir)
        return f"{local.name} [{local.short_hash}]"

    @contextmanager
    def pinned(
        self, files: Mapping[str, str], wanted: Collection[str], giver: PartsGiver, pause: Pause
    ) -> Iterator[PinnedFiles]:
        """A context with the files that an image names; fetched ones are not removed meanwhile.

        Args:
            files: SHA-256 of all that its job names, by `named.key_of`.
            wanted: those that it needs.

        Raises:
            Refused: one is no longer in the store.
        """
        with ExitStack() as holding:
            found: list[tuple[ModelKind, str, Path]] = []
            for key in sorted(wanted):
                kind, _, name = key.partition("/")
                pushed = self._described(files[key], name)
                path = self._own(pushed)
                if path is None:
                    held = self._fetch(pushed, giver, pause)
                    holding.callback(held.close)
                    path = held.path
                found += [(each, name, weights_in(path)) for each in KINDS if each == kind]
            yield PinnedFiles(tuple(found))

    def _fetch(self, pushed: PushedModel, giver: PartsGiver, pause: Pause) -> CachedModel:
        held = self._cache.fetch(pushed, giver, pause, lambda _: self._check_stopping())
        for each in pushed.contents:
            self._hashes.tell(held.path.parent / each.path, each.sha256)
        return held

    def _own(self, pushed: PushedModel) -> Path | None:
        """The same file in the worker's own folder, by its name; None if it is missing or different."""
        for path in files_below(self._settings.models_dir, (pushed.ending or INDEX,)):
            place = path if pushed.ending else path.parent
            if place.name == pushed.file_name and self._is_same(place, pushed):
                return place
        return None

    def _is_same(self, path: Path, pushed: PushedModel) -> bool:
        """Whether a file has the same bytes, and the same files beside it, or a folder the same contents."""
        if not pushed.ending:
            files = files_of(path)
        else:
            files = {path.name: path} | (files_beside(path) if pushed.kind == "checkpoint" else {})
        places = {path.parent / each.path: each for each in pushed.contents}
        return {*files.values()} == {*places} and all(
            place.stat().st_size == each.size and self._hashes.of(place) == each.sha256
            for place, each in places.items()
        )

    def _pushed_checkpoint(self, model: str) -> PushedModel | None:
        found = [each for each in self._pushed() if each.kind == "checkpoint"]
        return next((each for each in found if each.model == model), None)

    def _pushed(self) -> Collection[PushedModel]:
        """The pushed models, as of now or of Redis' last answer."""
        if self._cache.has_room:
            with suppress(Unavailable, StoreError):
                self._known = self._index.all().values()
        return self._known

    def _described(self, sha256: str, name: str) -> PushedModel:
        found = self._index.all().get(sha256) or self._objects.about(sha256)
        if found is None:
            raise Refused("files", name, f"it is not in the store any more; push it again (SHA-256 {sha256})")
        return found

    def _pause(self) -> None:
        self._stopping.wait(LOOK)
        self._check_stopping()

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise Unavailable("the worker ends")


class _Patient:
    """Retries calls to a store that fails temporarily."""

    def __init__(self, giver: PartsGiver, pause: Callable[[], None]) -> None:
        self._giver = giver
        self._pause = pause

    def read(self, model: PushedModel, start: int, size: int) -> bytes:
        """Like that of the wrapped giver."""
        for tries_left in reversed(range(_TRIES)):
            try:
                return self._giver.read(model, start, size)
            except StoreError as error:
                if not (error.transient and tries_left):
                    raise
                self._pause()
        raise AssertionError("unreachable")
