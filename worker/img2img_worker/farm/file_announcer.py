"""Announces the files that a worker has besides its checkpoint, so that clients can name them."""

from typing import Literal, get_args

from img2img_shared.ledger import FarmRedis
from img2img_shared.ledger.file_names import FileNames
from img2img_shared.ledger.inversion_names import InversionNames
from img2img_shared.ledger.lora_names import LoraNames
from img2img_worker.farm.current_model import CurrentModel
from img2img_worker.farm.events import Observer, Warned
from img2img_worker.farm.own_files import OwnFiles
from img2img_worker.farm.travel.model_files import ModelFiles

FetchedKind = Literal["control", "hypernetwork", "upscaler", "vae"]
#: kinds of files of which it says, too, which it can fetch
_FETCHED: tuple[FetchedKind, ...] = get_args(FetchedKind)


class FileAnnouncer:
    """Announces the files in the worker's folders, and those that it can fetch from the store."""

    def __init__(
        self,
        redis: FarmRedis,
        *,
        current: CurrentModel,
        own: OwnFiles,
        fetched: ModelFiles,
        observe: Observer,
    ) -> None:
        self._loras = LoraNames(redis)
        self._inversions = InversionNames(redis)
        self._files = FileNames(redis)
        self._current = current
        self._own = own
        self._fetched = fetched
        self._observe = observe
        #: upscalers and face restorers that cannot be used, and that the log tells of
        self._unusable: dict[str, str] = {}

    def round(self) -> None:
        """Announce what there is now; nothing before a model is loaded.

        Raises:
            Unavailable: Redis does not answer.
        """
        if (model := self._current.loaded) is None:
            return
        worker, checkpoint = self._current.info.id, model.checkpoint
        self._warn_of(self._own.unusable)
        pushed = {name: name for name in self._fetched.names("lora")}
        self._loras.say(worker, pushed | self._own.loras(checkpoint))
        with self._fetched.inversions() as fetched:
            inversions = self._own.pushed_inversions(checkpoint, fetched) | self._own.inversions(checkpoint)
        self._inversions.say(worker, checkpoint.model, inversions)
        files = self._own.names(checkpoint)
        for kind in _FETCHED:
            files[kind] = [*dict.fromkeys([*files[kind], *self._fetched.names(kind)])]
        self._files.say(worker, files)

    def _warn_of(self, unusable: dict[str, str]) -> None:
        """Log why each unusable file cannot be used, once."""
        for name in unusable.keys() - self._unusable.keys():
            self._observe(Warned(text=f"{name} cannot be used: {unusable[name]}"))
        self._unusable = unusable
