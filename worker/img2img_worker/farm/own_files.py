"""The files besides its checkpoint that a worker announces to the farm."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from img2img_shared.ledger.file_names import FileKind
from img2img_shared.ledger.inversion_names import InversionInfo
from img2img_worker.farm.loaded_checkpoint import LoadedCheckpoint
from img2img_worker.models.faces.restorers import FaceRestorers
from img2img_worker.models.pinned_files import PinnedFiles
from img2img_worker.models.prompts.textual_inversion import Inversions
from img2img_worker.models.upscalers.upscalers import Upscalers


class OwnFiles:
    """The files of this worker, read anew each time.

    Args:
        checkpoints: names of those that images may use besides the served one.
    """

    def __init__(
        self, upscalers: Upscalers, face_restorers: FaceRestorers, checkpoints: Callable[[], Sequence[str]]
    ) -> None:
        self._upscalers = upscalers
        self._face_restorers = face_restorers
        self._checkpoints = checkpoints

    @property
    def unusable(self) -> dict[str, str]:
        """Upscalers and face restorers whose files cannot be used, and why."""
        return {name: reason for name, reason in self._reasons().items() if reason is not None}

    def names(self, checkpoint: LoadedCheckpoint) -> dict[FileKind, list[str]]:
        """What images of a checkpoint may name, except LoRAs and textual inversions."""
        family = checkpoint.family
        return {
            "hypernetwork": family.hypernetworks.names,
            "vae": family.vaes.names,
            "control": family.controls.titles,
            "checkpoint": [*self._checkpoints()],
            "upscaler": [name for name, file in self._upscalers.files.items() if file.reason is None],
            "face_restorer": [
                name for name, reason in self._face_restorers.reasons.items() if reason is None
            ],
        }

    def loras(self, checkpoint: LoadedCheckpoint) -> dict[str, str]:
        """The LoRAs, with the names that their trainers gave them."""
        return checkpoint.family.loras.names

    def inversions(self, checkpoint: LoadedCheckpoint) -> dict[str, InversionInfo]:
        """The textual inversions, including those that the checkpoint cannot use."""
        return _infos(checkpoint.family.inversions.current())

    def pushed_inversions(
        self, checkpoint: LoadedCheckpoint, pushed: PinnedFiles
    ) -> dict[str, InversionInfo]:
        """The same for pushed files."""
        names = pushed.of("embedding")
        infos = _infos(checkpoint.family.inversions.current(pinned=pushed))
        return {
            name: info.model_copy(update={"pushed": True}) for name, info in infos.items() if name in names
        }

    def _reasons(self) -> Mapping[str, str | None]:
        upscalers = {name: file.reason for name, file in self._upscalers.files.items()}
        return upscalers | self._face_restorers.reasons


def _infos(found: Inversions) -> dict[str, InversionInfo]:
    infos = {name: _info(each.step, each.vectors) for name, each in found.loaded.items()}
    for name, each in found.skipped.items():
        about = InversionInfo() if each.file is None else _info(each.file.step, [*each.file.parts.values()])
        infos[name] = about.model_copy(update={"reason": each.reason})
    return infos


def _info(step: int | None, parts: Sequence[Tensor]) -> InversionInfo:
    """What is told of vectors [n, width] for one or several text encoders."""
    return InversionInfo(step=step, shape=sum(part.shape[-1] for part in parts), vectors=len(parts[0]))
