"""Models that a farm's workers fetch from its store: pushed there, listed, pulled and removed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from img2img_producer.backends.models_backend import ModelsBackend
from img2img_shared.errors import Refused
from img2img_shared.pushed_models.download import fetch_into
from img2img_shared.pushed_models.kind import header, kind_of
from img2img_shared.pushed_models.pushed_model import ENDINGS, KINDS, NewModel, PushedModel, read_kind
from img2img_shared.pushed_models.upload import hash_of, send

#: told what is being done, how many bytes of it are done, and of how many
Progress = Callable[[str, int, int], None]


def _ignore(_what: str, _done: int, _of: int) -> None:
    """Nobody wants to be told."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """A file that is in the store."""

    model: PushedModel
    #: it was there before, and nothing was sent
    was_there: bool


class FarmModels:
    """Those of one farm. Methods raise `StoreError` and `Unavailable`."""

    def __init__(self, backend: ModelsBackend) -> None:
        self._backend = backend

    def all(self) -> list[PushedModel]:
        """Those that are in the store, by kind and name; of one name, that which was pushed last first."""
        return self._backend.all()

    def push(
        self,
        file: str | Path,
        *,
        kind: str | None = None,
        name: str | None = None,
        progress: Progress = _ignore,
    ) -> Pushed:
        """Put a file of weights into the store, from where workers fetch it for the jobs that name it.

        What broke off is gone on with: what is there already is not sent again.

        Args:
            kind: "checkpoint", "lora", ...; None: as the file's tensors tell.
            name: what jobs call it; None: the file's name without its ending.

        Raises:
            Refused: it is no such file, or its kind must be said, or it is there by another name.
        """
        path = Path(file).expanduser()
        ending = path.suffix.lower()
        if path.is_dir():
            raise Refused("file", str(path), "give a single file; a folder is not pushed")
        if ending not in ENDINGS:
            raise Refused("file", str(path), f"give a file that ends with {', '.join(ENDINGS)}")
        if ending == ".safetensors" and path.is_file():
            header(path)
        size = path.stat().st_size if path.is_file() else 0
        sha256, size = hash_of(path, lambda done: progress("reading", done, size))
        wanted = NewModel.of(
            kind=kind_of(path) if kind is None else read_kind(kind),
            name=name or path.stem,
            ending=ending,
            sha256=sha256,
            size=size,
        )
        before = next((each for each in self._backend.all() if each.sha256 == sha256), None)
        if before is None:
            send(path, sha256, size, self._backend, lambda done: progress("sending", done, size))
        return Pushed(model=self._backend.add(wanted), was_there=before is not None)

    def pull(
        self,
        wanted: str,
        folder: str | Path = ".",
        *,
        kind: str | None = None,
        progress: Progress = _ignore,
    ) -> Path:
        """Write a model's file into a folder; gives its path. What broke off is gone on with.

        Args:
            wanted: a name or a hash.

        Raises:
            NotFound: there is none.
            Refused: another file of that name is there.
            Damaged: what the store has is not what was pushed.
        """
        model = self._backend.find(wanted, None if kind is None else read_kind(kind))
        path = Path(folder).expanduser() / model.file_name
        if path.exists():
            if path.stat().st_size == model.size and hash_of(path)[0] == model.sha256:
                return path
            raise Refused("out", str(path), "another file is there; move it away, or give another folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = path.with_name(f"{path.name}.{model.short_hash}.part")
        with begun.open("a+b") as file:
            fetch_into(file, model, self._backend, lambda done: progress("fetching", done, model.size))
        begun.replace(path)
        return path

    def remove(self, wanted: str, *, kind: str | None = None) -> PushedModel:
        """Remove a model from the store; which one it was.

        Raises:
            NotFound: there is none.
            Refused: jobs that have not ended need it.
        """
        model = self._backend.find(wanted, None if kind is None else read_kind(kind))
        self._backend.remove(model)
        return model


__all__ = ["KINDS", "FarmModels", "Pushed", "PushedModel"]
