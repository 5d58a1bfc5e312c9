"""The models in the farm's store: pushed, listed, removed."""

import secrets
import time
from collections.abc import Iterator, Mapping

from img2img_shared.errors import NotFound, Refused, Unavailable
from img2img_shared.farm.connection import FarmConnection
from img2img_shared.ledger.answers import Answer
from img2img_shared.pushed_models.model_objects import PART
from img2img_shared.pushed_models.pushed_model import KINDS, ModelKind, NewModel, PushedModel, find_pushed

#: so many jobs are named in a refusal
_NAMED = 5


class ModelShelf(FarmConnection):
    """Pushed models, by their names and hashes. Methods raise `Unavailable` and `StoreError`."""

    def pushed_models(self) -> list[PushedModel]:
        """All pushed models, by kind and name, the last pushed first."""
        self._establish_store()
        found = self.model_index.refresh().values()
        return sorted(found, key=lambda each: (KINDS.index(each.kind), each.name.casefold(), -each.pushed))

    def pushed_model(self, wanted: str, kind: ModelKind | None = None) -> PushedModel:
        """The pushed model that a name, a title or a hash means.

        Raises:
            NotFound: there is none.
            Refused: it means models of different kinds.
        """
        kinds = KINDS if kind is None else (kind,)
        found = [each for name in kinds if (each := self.model_index.find(name, wanted)) is not None]
        if not found:  # a removal that broke off may have left it in the store
            there = [*self.model_objects.all()]
            found = [each for name in kinds if (each := find_pushed(wanted, name, there)) is not None]
        if not found:
            raise NotFound(f"no pushed model is called {wanted!r}; see img2img models list")
        if len({each.sha256 for each in found}) > 1:
            told = ", ".join(f"{each.kind} {each.short_hash}" for each in found)
            raise Refused("name", wanted, f"it means several; give a hash: {told}")
        return found[0]

    def find_pushed_file(self, sha256: str) -> PushedModel | None:
        """The complete pushed model with that hash, or None."""
        self._establish_store()
        return self.model_objects.about(sha256)

    def put_model_part(self, sha256: str, number: int, data: bytes) -> None:
        """Store one part of a file that is being pushed."""
        self._establish_store()
        self.model_objects.put_part(sha256, number, data)

    def add_pushed_model(self, new: NewModel, by: str) -> PushedModel:
        """Complete a push whose parts are all in the store: from now on its name means this file.

        A file that was pushed before stays as it is, and its name means it (again).

        Raises:
            Refused: a part is missing, or the same file is there by another name, or with others beside it.
        """
        self._check_stays(new.sha256)
        model = PushedModel(**dict(new), part=PART, pushed=time.time(), by=by[:200])
        before = self.find_pushed_file(new.sha256)
        if before is not None:
            _check_same(before, new)
            model = before.model_copy(update={"pushed": model.pushed, "by": by})
        else:
            self._check_parts(model)
            if new.kind == "checkpoint":
                model = model.model_copy(update={"model": self._free_name(model)})
        self.model_objects.put_about(model)
        self._check_stays(new.sha256)  # who begins to remove it from now on, finds it whole
        self._check_parts(model)
        self.model_index.put(model)
        self._note(by, "push-model", model)
        return model

    def remove_pushed_model(self, sha256: str, by: str, once: str | None = None) -> PushedModel:
        """Remove a file from the store, and return what it was. Workers' copies make room when they need it.

        Args:
            once: a repeat with the same key, within ten minutes, gets the same answer.

        Raises:
            NotFound: there is none.
            Refused: jobs that have not ended need it.
        """
        self._establish_store()
        answer = Answer(self.redis, "remove-model", sha256, once or secrets.token_hex(8))
        before = answer.given()
        known = self.model_index.all().get(sha256) or self.model_objects.about(sha256)
        if before is not None and known is None:
            self.model_objects.remove(sha256)  # the first call may have ended in the middle
            return PushedModel.model_validate(before)
        if known is None:
            raise NotFound(f"no pushed model has the SHA-256 {sha256}; see img2img models list")
        self.model_index.remove(sha256)  # first: whoever submits from now on is told that it is gone
        if needing := list(self._jobs_that_need(sha256)):
            self.model_index.put(known)
            listed = ", ".join(needing[:_NAMED]) + (", ..." if len(needing) > _NAMED else "")
            reason = f"jobs that have not ended need it: wait, or img2img cancel them first ({listed})"
            raise Refused("name", known.name, reason)
        answer.give(known.model_dump(mode="json"))
        self.model_objects.remove(sha256)
        self.model_index.end_removal(sha256)
        self._note(by, "remove-model", known)
        return known

    def check_files(self, files: Mapping[str, str]) -> None:
        """Check that the files a job is about to name are still there: one may have been removed since.

        Raises:
            Refused: one was removed.
        """
        known = self.model_index.all() if files else {}
        for name, sha256 in files.items():
            if sha256 not in known:
                raise Refused("files", name, "it was removed from the store just now; push it again")

    def _note(self, by: str, action: str, model: PushedModel) -> None:
        told = f"{model.kind} {model.name}"
        self.audit.write(by=by, tenant="", action=action, subject=model.sha256, detail=told)

    def _free_name(self, model: PushedModel) -> str:
        """The name of a checkpoint in the ledger: its own, unless another file has had that name."""
        others: Mapping[str, str] = {
            **self.ledger.known_hashes(),
            **{each.model: each.sha256 for each in self.model_index.all().values()},
        }
        return model.name if others.get(model.name, model.sha256) == model.sha256 else model.title

    def _check_stays(self, sha256: str) -> None:
        if self.model_index.is_being_removed(sha256):
            raise Unavailable(f"the file {sha256} is being removed from the store; push it again after that")

    def _check_parts(self, model: PushedModel) -> None:
        sizes = self.model_objects.sizes(model.sha256)
        missing = [n for n in range(model.n_parts) if sizes.get(n) != model.size_of_part(n)]
        if missing:
            raise Refused("parts", missing, "send these parts again: they are not in the store")

    def _jobs_that_need(self, sha256: str) -> Iterator[str]:
        for job in self.ledger.unfinished_jobs():
            if sha256 in job.files.values():
                yield job.id


def _check_same(before: PushedModel, new: NewModel) -> None:
    """Check that a model that is pushed again has the same name, and the same files beside it."""
    if (before.kind, before.name) != (new.kind, new.name):
        told = f"the same file is there as {before.kind} {before.name}; use that, or remove it first"
        raise Refused("name", new.name, told)
    if before.contents_hash != new.contents_hash:
        beside = ", ".join(each.path for each in before.files) or "nothing"
        told = f"the same file is there with {beside} beside it, whose jobs mean that; remove it first"
        raise Refused("files", ", ".join(each.path for each in new.files) or "none", told)
