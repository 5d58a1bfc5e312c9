"""The client's calls for models in the farm's store: push, list, pull, remove."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from img2img_producer.backends.models_backend import ModelsBackend
from img2img_shared.checkpoints import folder_hash
from img2img_shared.errors import Refused
from img2img_shared.pushed_models.download import fetch_into
from img2img_shared.pushed_models.local_model import LocalModel, find_local
from img2img_shared.pushed_models.model_objects import PART
from img2img_shared.pushed_models.pushed_model import KINDS, ModelFile, NewModel, PushedModel, read_kind
from img2img_shared.pushed_models.upload import hash_of, send

#: told what is being done, how many bytes of it are done, and of how many
Progress = Callable[[str, int, int], None]


def _ignore(_what: str, _done: int, _of: int) -> None:
    """A `progress` that does nothing."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """A model that was pushed."""

    model: PushedModel
    #: it was there before, and nothing was sent
    was_there: bool


class FarmModels:
    """The models of one farm. Methods raise `StoreError` and `Unavailable`."""

    def __init__(self, backend: ModelsBackend) -> None:
        self._backend = backend

    def all(self) -> list[PushedModel]:
        """All models in the store, by kind and name; of several with one name, the last pushed first."""
        return self._backend.all()

    def push(
        self,
        path: str | Path,
        *,
        kind: str | None = None,
        name: str | None = None,
        progress: Progress = _ignore,
    ) -> Pushed:
        """Put a model into the store, from which workers fetch it for the jobs that name it.

        A checkpoint's file is pushed with the files beside it that belong to it: ``NAME.yaml``,
        ``NAME.vae.pt``, the vocabularies ``tokenizer`` and ``tokenizer_t5``. A folder in the diffusers
        layout, of a checkpoint or of a control network, is pushed whole. An interrupted push is resumed: only
        the parts that the store lacks are sent.

        Args:
            path: the file or the folder.
            kind: "checkpoint", "lora", ...; None: recognise it by its tensors.
            name: what jobs call it; None: the folder's name, or the file's without its ending.

        Raises:
            Refused: it is not a model, or its kind must be given, or it is there under another name.
        """
        local = find_local(Path(path).expanduser(), None if kind is None else read_kind(kind))
        wanted, paths = _hash_files(local, name or local.name, progress)
        before = next((each for each in self._backend.all() if each.sha256 == wanted.sha256), None)
        if before is None or (before.contents_hash == wanted.contents_hash and self._lacks_parts(before)):
            part = PART if before is None else before.part
            send(paths, wanted, self._backend, lambda done: progress("sending", done, wanted.total), part)
        model = self._backend.add(wanted)
        if model.contents_hash != wanted.contents_hash:
            self._backend.remove(model)
            reason = "the gateway is older than this client, and takes single files only; upgrade it first"
            raise Refused("file", str(path), reason)
        return Pushed(model=model, was_there=before is not None)

    def _lacks_parts(self, model: PushedModel) -> bool:
        """Whether the store has lost a part of it."""
        there = self._backend.sizes(model.sha256)
        return any(there.get(number) != model.size_of_part(number) for number in range(model.n_parts))

    def pull(
        self,
        wanted: str,
        folder: str | Path = ".",
        *,
        kind: str | None = None,
        progress: Progress = _ignore,
    ) -> Path:
        """Write a model's file or folder into a folder; returns its path. An interrupted pull is resumed.

        Args:
            wanted: a name or a hash.

        Raises:
            NotFound: there is no such model.
            Refused: another file of that name is there.
            Damaged: the store's bytes are not those that were pushed.
        """
        model = self._backend.find(wanted, None if kind is None else read_kind(kind))
        out = Path(folder).expanduser()
        missing = [each for each in model.contents if not _is_there(out, each)]
        for each in reversed(missing):  # what says that all is there comes last
            path = out / each.path
            path.parent.mkdir(parents=True, exist_ok=True)
            begun = path.with_name(f"{path.name}.{each.sha256[:10]}.part")
            with begun.open("a+b") as file:
                fetch_into(
                    file, model, each, self._backend, lambda done: progress("fetching", done, model.total)
                )
            begun.replace(path)
        return out / model.file_name

    def remove(self, wanted: str, *, kind: str | None = None) -> PushedModel:
        """Remove a model from the store, and return what it was.

        Raises:
            NotFound: there is no such model.
            Refused: jobs that have not ended need it.
        """
        model = self._backend.find(wanted, None if kind is None else read_kind(kind))
        self._backend.remove(model)
        return model


def _hash_files(local: LocalModel, name: str, progress: Progress) -> tuple[NewModel, list[Path]]:
    """The description of a model that is called `name`, and the paths of its contents."""
    files = local.beside(name)
    total = sum(path.stat().st_size for path in files.values())
    hashed, done = list[ModelFile](), 0
    for place, path in files.items():
        sha256, size = hash_of(path, partial(_tell_reading, progress, done, total))
        hashed.append(ModelFile(path=place, sha256=sha256, size=size))
        done += size
    is_file = bool(local.ending)
    facts = {
        "sha256": hashed[0].sha256 if is_file else folder_hash((each.path, each.sha256) for each in hashed),
        "size": hashed[0].size if is_file else done,
        "files": hashed[1:] if is_file else hashed,
    }
    model = NewModel.of(kind=local.kind, name=name, ending=local.ending, **facts)
    return model, [*files.values()]


def _tell_reading(progress: Progress, before: int, total: int, read: int) -> None:
    progress("reading", before + read, total)


def _is_there(folder: Path, wanted: ModelFile) -> bool:
    """Whether a file is in its place already.

    Raises:
        Refused: another one is.
    """
    path = folder / wanted.path
    if not path.exists():
        return False
    if path.is_file() and path.stat().st_size == wanted.size and hash_of(path)[0] == wanted.sha256:
        return True
    raise Refused("out", str(path), "another file is there; move it away, or give another folder")


__all__ = ["KINDS", "FarmModels", "Pushed", "PushedModel"]
