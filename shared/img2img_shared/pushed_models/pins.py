"""What the names in one job mean when it is submitted, and from then on."""

from collections.abc import Collection, Mapping
from typing import Any

from img2img_shared.own_params import with_own
from img2img_shared.params import Params
from img2img_shared.pushed_models.named import NamedFile, key_of, pinned_files
from img2img_shared.pushed_models.pushed_model import PushedModel, find_pushed

#: fields that name another checkpoint
CHECKPOINTS = ("refiner_checkpoint", "hr_checkpoint_name")


class Pins:
    """Gathers the pushed files that a job's parameters name, and its inputs' own.

    Args:
        known: what is pushed now.
        model: the job's.
    """

    def __init__(self, known: Collection[PushedModel], model: str) -> None:
        self._known = known
        #: SHA-256 by `key_of` the names
        self.files: dict[str, str] = {
            key_of("checkpoint", model): each.sha256 for each in known if each.model == model
        }

    def has_checkpoint(self, wanted: str) -> bool:
        """Whether it is a pushed one."""
        return find_pushed(wanted, "checkpoint", self._known) is not None

    def has(self, named: NamedFile) -> bool:
        """Whether a file beside checkpoints is a pushed one."""
        return named.find(self._known) is not None

    def of(self, params: Params) -> Params:
        """`params`, whose files are noted, with checkpoints called as workers call them."""
        self.files |= pinned_files(params, self._known)
        own = {field: each.model for field, each in self._checkpoints(params).items()}
        return params.model_copy(update=own) if own else params

    def of_own(self, params: Params, own: Mapping[str, Any]) -> dict[str, Any]:
        """The same of an input's own parameters, over its job's `params`."""
        if not self._known:
            return dict(own)
        whole = with_own(params, own)
        called = self.of(whole.model_copy(update={name: None for name in CHECKPOINTS if name not in own}))
        return {name: getattr(called, name) if name in CHECKPOINTS else value for name, value in own.items()}

    def _checkpoints(self, params: Params) -> dict[str, PushedModel]:
        """Pushed ones beside the job's own, by the fields that name them; noted."""
        found = {}
        for field in CHECKPOINTS:
            wanted = getattr(params, field)
            if wanted and (model := find_pushed(wanted, "checkpoint", self._known)) is not None:
                found[field] = model
                self.files[key_of("checkpoint", model.model)] = model.sha256
        return found
