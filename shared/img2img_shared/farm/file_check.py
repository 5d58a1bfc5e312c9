"""That somebody has the files which a job names: else all of its images would fail, one after the other."""

from collections.abc import Callable, Collection, Mapping, Sequence

from img2img_shared.control import find_name
from img2img_shared.errors import Refused
from img2img_shared.extras_report import restorers_of
from img2img_shared.ledger import FarmRedis
from img2img_shared.ledger.file_names import FileKind, FileNames
from img2img_shared.ledger.lora_names import LoraNames
from img2img_shared.params import Params
from img2img_shared.pushed_models.named import NamedFile, named_files
from img2img_shared.pushed_models.pins import CHECKPOINTS, Pins
from img2img_shared.suggestions import unknown_name
from img2img_shared.upscaler_names import BUILT_IN

#: what refusals call files of a kind
_CALLED = {
    "lora": "LoRA",
    "hypernetwork": "hypernetwork",
    "vae": "VAE",
    "control": "control network",
    "upscaler": "upscaler",
}
_KINDS: dict[str, FileKind] = {
    "hypernetwork": "hypernetwork",
    "vae": "vae",
    "control": "control",
    "upscaler": "upscaler",
    "face_restorer": "face_restorer",
}
#: names of a kind that need no file
_WITHOUT: dict[str, tuple[str, ...]] = {"vae": ("Automatic", "None"), "upscaler": BUILT_IN}


class FileCheck:
    """That of one job: workers are asked once what they have, and only if the job names something.

    Nothing is refused of which nobody knows that it is missing: where no worker of the model lives, or one
    of them has not said yet what it has.

    Args:
        workers: gives the ids of the live workers that have it, or can load it.
        pins: what is in the store, which any worker fetches.
        check_checkpoint: raises `Refused` for a parameter and another checkpoint that it names, if no worker
            has that.
    """

    def __init__(
        self,
        redis: FarmRedis,
        *,
        workers: Callable[[], Sequence[str]],
        pins: Pins,
        check_checkpoint: Callable[[str, str], object],
    ) -> None:
        self._files, self._loras = FileNames(redis), LoraNames(redis)
        self._ask = workers
        self._pins = pins
        self._check_checkpoint = check_checkpoint
        self._workers: Sequence[str] | None = None
        #: by the names that jobs may use, what files of a kind are listed as; None: nobody can tell
        self._known: dict[str, Mapping[str, str] | None] = {}
        #: what was found to be there
        self._there: set[tuple[str, str]] = set()

    def check(self, params: Params) -> None:
        """That what these parameters name is there.

        Raises:
            Refused: it is not; says what is, and how it gets there.
            Unavailable: Redis does not answer.
        """
        for field in CHECKPOINTS:
            wanted = getattr(params, field)
            if wanted and (field, wanted) not in self._there:
                if not self._pins.has_checkpoint(wanted):
                    self._check_checkpoint(field, wanted)
                self._there.add((field, wanted))
        for each in named_files(params):
            if (each.kind, each.name) not in self._there:
                self._check_file(each)
                self._there.add((each.kind, each.name))
        if not params.extras:  # of which the model is chosen by who has them
            for name in restorers_of(params):
                self._check_restorer(name)

    def _check_file(self, named: NamedFile) -> None:
        if self._pins.has(named) or (known := self._names(named.kind)) is None or _is_among(named, known):
            return
        listed = [*_WITHOUT.get(named.kind, ()), *sorted({*known.values()}, key=str.lower)]
        unknown = unknown_name(_CALLED[named.kind], named.name, listed)
        push = "to give the workers yours: img2img models push FILE"
        raise Refused(named.field, named.value, f"{unknown}; {push}")

    def _check_restorer(self, name: str) -> None:
        known = self._names("face_restorer")
        if known is not None and name not in known:
            raise Refused("face_restoration_model", name, unknown_name("face restorer", name, known))

    def _names(self, kind: str) -> Mapping[str, str] | None:
        if kind not in self._known:
            said = self._said(kind)
            known = {name: listed for each in said for name, listed in (each or {}).items()}
            self._known[kind] = known if said and None not in said else None
        return self._known[kind]

    def _said(self, kind: str) -> list[dict[str, str] | None]:
        """What each of the workers has, by the names that jobs may use; None: it has not said."""
        if self._workers is None:
            self._workers = self._ask()
        if kind == "lora":
            loras = self._loras.of_each(self._workers)
            return [None if each is None else _by_both_names(each) for each in loras]
        files = self._files.of_each(self._workers, _KINDS[kind])
        return [None if each is None else dict(zip(each, each, strict=True)) for each in files]


def _by_both_names(loras: Mapping[str, str]) -> dict[str, str]:
    """LoRAs' own names, by these and by their trainers'."""
    return {alias: name for name, alias in loras.items()} | {name: name for name in loras}


def _is_among(named: NamedFile, names: Collection[str]) -> bool:
    if named.kind != "control":
        return named.name in names
    titles = {title: title.rpartition(" [")[0] for title in names}
    return find_name(named.name, titles.values(), titles) is not None
