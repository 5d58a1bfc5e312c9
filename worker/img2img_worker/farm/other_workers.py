"""Files that other workers of a model have, and this one lacks."""

import random
import time
from collections.abc import Collection, Sequence
from itertools import islice

from img2img_shared.control import find_name
from img2img_shared.errors import Refused, Unavailable
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.connect import FarmRedis
from img2img_shared.ledger.file_names import FileKind, FileNames
from img2img_shared.ledger.inversion_names import InversionNames
from img2img_shared.ledger.lora_names import EVERY, LoraNames
from img2img_shared.params import Params
from img2img_worker.farm.current_model import LoadedModel
from img2img_worker.farm.loaded_checkpoint import LoadedCheckpoint
from img2img_worker.farm.own_files import OwnFiles
from img2img_worker.models.prompts.conditioning import conditioning

#: what a refusal calls a textual inversion or a LoRA
INVERSION, LORA = "textual_inversion", "lora"
#: what it calls other files that workers tell each other of, and what these call them
_KINDS: dict[str, FileKind] = {
    "hypernetwork": "hypernetwork",
    "vae": "vae",
    "control.model": "control",
    "checkpoint": "checkpoint",
    "upscaler": "upscaler",
    "face_restorer": "face_restorer",
}
_FIELDS = frozenset({INVERSION, LORA, *_KINDS})
#: of those that have a file, so many are named: each claim looks whether they are there
ENOUGH = 8


class OthersHaveIt(Exception):
    """This worker lacks a file that these others have."""

    def __init__(self, refused: Refused, others: Sequence[str]) -> None:
        super().__init__(str(refused))
        self.others = others


class OtherWorkers:
    """The other workers of the farm, by what they last announced."""

    def __init__(self, ledger: Ledger, redis: FarmRedis, own: OwnFiles) -> None:
        self._ledger = ledger
        self._own = own
        self._loras, self._inversions, self._files = LoraNames(redis), InversionNames(redis), FileNames(redis)
        #: of a model, textual inversions that some worker of it can use, and when to ask again
        self._known: tuple[str, frozenset[str], float] = "", frozenset(), 0.0

    def check_words(self, model: LoadedModel, params: Params, pinned: Collection[str] = ()) -> None:
        """Check that an image's prompts name no textual inversion that only other workers have.

        Nothing else would notice: a word that names no inversion is an ordinary word.

        Args:
            pinned: files that the image's job means, by `named.key_of`, which are fetched.

        Raises:
            OthersHaveIt: they name one.
            Unavailable: Redis does not answer, and nobody else knows.
        """
        inversions, known = model.checkpoint.family.inversions, self._usable(model.served.model)
        known -= {name.partition("/")[2] for name in pinned if name.startswith("embedding/")}
        if known <= inversions.current().loaded.keys():
            return
        prompts = [(params.prompt, params.negative_prompt)]
        if params.enable_hr:
            prompts.append((params.hr_prompt, params.hr_negative_prompt))
        texts = [text for pair in prompts for text in conditioning(*pair, params).texts]
        for name in inversions.lacking(known, texts, params.emphasis):
            refused = Refused(INVERSION, name, "this worker has no such file")
            if others := self._having(model, refused):
                raise OthersHaveIt(refused, others)

    def having(self, model: LoadedModel, refused: Refused) -> list[str]:
        """Some workers with the model and the file for lack of which this one refused an image."""
        try:
            return self._having(model, refused)
        except Unavailable:  # then nobody is known
            return []

    def _having(self, model: LoadedModel, refused: Refused) -> list[str]:
        field = refused.field
        if field not in _FIELDS or _is_among(refused, self._own_names(field, model.checkpoint)):
            return []
        ids = [
            each.info.id
            for each in self._ledger.workers()
            if each.info.model == model.served.model and each.report.trouble is None
        ]
        random.shuffle(ids)
        found = (each for each in ids if _is_among(refused, self._names(field, each)))
        return [*islice(found, ENOUGH)]

    def _usable(self, model: str) -> frozenset[str]:
        known, names, until = self._known
        if known != model or time.monotonic() > until:
            names = frozenset(self._inversions.usable(model))
            self._known = model, names, time.monotonic() + EVERY
        return names

    def _own_names(self, field: str, checkpoint: LoadedCheckpoint) -> Collection[str]:
        if field == LORA:
            loras = self._own.loras(checkpoint)
            return {*loras, *loras.values()}
        if field == INVERSION:
            return checkpoint.family.inversions.current().loaded.keys()
        return self._own.names(checkpoint)[_KINDS[field]]

    def _names(self, field: str, worker: str) -> Collection[str]:
        if field == LORA:
            loras = self._loras.of([worker]) or {}
            return {*loras, *loras.values()}
        if field == INVERSION:
            said = self._inversions.of([worker])
            return {name for name, each in said.items() if each.reason is None and not each.pushed}
        return self._files.of([worker], _KINDS[field]) or []


def _is_among(refused: Refused, names: Collection[str]) -> bool:
    wanted = str(refused.value)
    if _KINDS.get(refused.field) != "control":
        return wanted in names
    titles = {title: title.rpartition(" [")[0] for title in names}
    return find_name(wanted, titles.values(), titles) is not None
