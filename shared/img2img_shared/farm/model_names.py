"""The checkpoints that jobs can name, and what a name means."""

from collections.abc import Mapping
from pathlib import Path

from img2img_shared.checkpoints import (
    Checkpoint,
    checkpoints_in,
    find_checkpoint,
    is_hash,
    sha256_of,
    with_hashes,
)
from img2img_shared.errors import NoWorkers, Refused
from img2img_shared.farm.any_model import model_with_upscalers
from img2img_shared.farm.connection import FarmConnection
from img2img_shared.params import Params
from img2img_shared.pushed_models.pushed_model import PushedModel
from img2img_shared.records import WorkerInfo

#: the checkpoint that comes with the worker
DEFAULT_MODEL = "demo"
#: seconds for which a model is the default, unless it is said again
_BY_DEFAULT = 10
#: so many checkpoints are named in a refusal
_NAMED = 20


class Catalog(FarmConnection):
    """The farm's checkpoints by the names that jobs use."""

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints that are served, were pushed, or could be served by an embedded farm, each once."""
        found = self._served()
        names = {each.model for each in found}
        return found + [_pushed_checkpoint(each) for each in self._pushed() if each.model not in names]

    def _pushed(self) -> list[PushedModel]:
        return [each for each in self.model_index.all().values() if each.kind == "checkpoint"]

    def _served(self) -> list[Checkpoint]:
        here = checkpoints_in(self.settings.models_dir) if self.is_embedded else {}
        workers = [worker.info for worker in self.workers()]
        pushed = {each.model: each.sha256 for each in self._pushed()}
        has_others = any(info.others for info in workers)
        hashes = self.ledger.known_hashes() if has_others else {}
        taken = self.ledger.known_takes() if has_others else {}
        served = {
            model: Checkpoint(
                model=model,
                file_name=file_name or Path(model).name,
                sha256=hashes.get(model) or pushed.get(model),
                path=_path(model, here),
                takes=taken.get(model),
            )
            for info in workers
            for model, file_name in info.others.items()
        } | {info.model: _served_checkpoint(info, here) for info in workers if info.sha256 or not info.others}
        found = [served[model] for model in sorted(served)]
        if self.is_embedded:
            demo = Checkpoint(model=DEFAULT_MODEL, file_name=DEFAULT_MODEL)
            local = [Checkpoint(model=name, file_name=path.name, path=path) for name, path in here.items()]
            for each in (*local, demo):
                if find_checkpoint(str(each.path or each.model), found) is None:
                    found.append(each)
        return found

    def models(self) -> list[str]:
        """The names of the `checkpoints`."""
        return sorted(checkpoint.model for checkpoint in self.checkpoints())

    def find_checkpoint(self, wanted: str) -> Checkpoint | None:
        """The checkpoint that a path, a name, a title or a hash means, or None.

        A pushed checkpoint comes before one that workers have under the same name. A path to a file here
        never means another file that was pushed.

        Raises:
            Refused: it is ambiguous.
        """
        pushed = self.model_index.find("checkpoint", wanted)
        found = self.checkpoints()
        if pushed is not None:  # it is not among `found` if it was removed in between
            return next((each for each in found if each.model == pushed.model), None)
        if (path := Path(wanted)).is_absolute() and path.is_file():
            others = {each.model for each in self._pushed() if not _is_at(path, each)}
            found = [each for each in found if each.model not in others]
        checkpoint = find_checkpoint(wanted, found)
        if checkpoint is None and is_hash(wanted):  # of a file here that nobody has loaded yet
            checkpoint = find_checkpoint(wanted, with_hashes(found))
        return checkpoint

    def other_checkpoint(self, field: str, wanted: str, model: str) -> str:
        """The name, among workers, of a second checkpoint that images of `model` want.

        As in A1111, a part of a name is enough; of several, the shortest is meant.

        Args:
            field: the parameter that names it.

        Raises:
            Refused: no worker of the model has it.
        """
        workers = [each.info.id for each in self.workers() if model in each.info.models]
        said = self._file_names.of_each(workers, "checkpoint")
        names = [*dict.fromkeys(name for each in said for name in each or ())]
        found = find_checkpoint(wanted, [Checkpoint(model=name, file_name=name) for name in names])
        if found is not None:
            return found.model
        alike = sorted((name for name in names if wanted in name), key=len)
        if not alike and (None in said or not said):  # who has not said yet what it has, may have it
            return wanted
        if not alike:
            listed = ", ".join(names[:_NAMED]) or "none: its workers have no other checkpoints"
            raise Refused(field, wanted, f"give one that workers of {model!r} have: {listed}")
        return alike[0]

    def name_of(self, model: str) -> str:
        """The name of a model: each checkpoint has one name and one queue, whatever a job calls it.

        Raises:
            Refused: it is ambiguous.
        """
        checkpoint = self.find_checkpoint(model)
        return model if checkpoint is None else checkpoint.model

    def default_model(self, *, now: bool = False) -> str:
        """The model of a job that names none.

        On an embedded farm, the one that `img2img up` serves, else "demo", whatever else other programs asked
        for. On any other farm, where workers are started by hand, the only one that is served, else "demo".

        Args:
            now: the caller waits for it, so that it must be served already, or be startable.

        Raises:
            Refused: several are served, and "demo" is none of them.
            NoWorkers: `now`, and none is served.
        """
        if self.is_embedded:
            return str(self._defaults.get("model") or DEFAULT_MODEL)
        served = self._served()
        if not (served or now):
            served = [_pushed_checkpoint(each) for each in self._pushed()]
        if len({each.sha256 or each.model for each in served}) == 1:
            return served[0].model
        names = [each.model for each in served]
        if DEFAULT_MODEL in names or not (names or now):
            return DEFAULT_MODEL
        if not names:
            raise NoWorkers
        raise Refused("model", None, f"give one that is served: {', '.join(names)}")

    def serve_by_default(self, model: str) -> None:
        """Like `serve`, and for the next ten seconds jobs that name no model get this one."""
        self.serve(model)
        self._defaults.put({"model": model})
        self._defaults.expire(_BY_DEFAULT)

    def _model_meant(
        self, tenant: str, model: str | None, idempotency_key: str | None, params: Params
    ) -> tuple[str, bool]:
        """What a job's model is called, and whether its idempotency key has made one before."""
        found = self.ledger.repeated_model(tenant, idempotency_key)
        if model is not None:
            name = self.name_of(model)
            if found is None:
                self._check_model(name)
            return name, found is not None
        # of a repeat it is the first job's, whatever is served by now
        if found is not None:
            return found, True
        chosen = None
        if params.extras:
            chosen = model_with_upscalers(params, self.ledger, self._file_names, self.model_index)
        return chosen or self.default_model(), False

    def _check_model(self, model: str) -> None:
        """Check that somebody serves it, or could: a job of a misspelt model would wait forever.

        Raises:
            Refused: says what there is, and where names are looked up.
        """
        if self.is_embedded:
            folder = self.settings.models_dir
            here = {**dict.fromkeys(self.models()), **checkpoints_in(folder, pickles=True)}
            if model not in here and not Path(model).exists():
                where = (
                    f"in {folder} (IMG2IMG_MODELS_DIR)"
                    if folder
                    else "in IMG2IMG_MODELS_DIR, which is not set"
                )
                names = ", ".join(sorted(here))
                raise Refused(
                    "model", model, f"use {names}, or the path of a checkpoint; names are looked up {where}"
                )
        elif any(each.model == model for each in self._pushed()):
            return
        elif (served := self.served()) and model not in served and not self.ledger.has_served(model):
            raise Refused(
                "model",
                model,
                f"workers of this farm serve {', '.join(served)}; use one of these, or start a worker first: "
                f"img2img worker --model {model}",
            )

    def _check_other(self, model: str, field: str, wanted: str) -> None:
        if self.name_of(wanted) != model:
            self.other_checkpoint(field, wanted, model)


def _served_checkpoint(info: WorkerInfo, here: Mapping[str, Path]) -> Checkpoint:
    """The checkpoint of a worker, with its path if that is known on this machine."""
    return Checkpoint(
        model=info.model,
        file_name=info.file_name or Path(info.model).name,
        sha256=info.sha256,
        path=_path(info.model, here),
        takes=frozenset(info.takes),
    )


def _pushed_checkpoint(pushed: PushedModel) -> Checkpoint:
    return Checkpoint(model=pushed.model, file_name=pushed.file_name, sha256=pushed.sha256, takes=None)


def _is_at(path: Path, pushed: PushedModel) -> bool:
    """Whether the file there is the one that was pushed."""
    return path.stat().st_size == pushed.size and sha256_of(path) == pushed.sha256


def _path(model: str, here: Mapping[str, Path]) -> Path | None:
    """The path of a model on this machine, if it is known."""
    if model in here:
        return here[model]
    path = Path(model)
    return path if path.is_absolute() and path.exists() else None
