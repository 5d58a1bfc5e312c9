"""The files that names in a job stand for, if the job has pinned them: they may differ from a folder's."""

from dataclasses import dataclass
from pathlib import Path

from img2img_shared.pushed_models.pushed_model import ModelKind


@dataclass(frozen=True)
class PinnedFiles:
    """Files by their kinds and the names by which a job calls them. Equal if the files are the same."""

    #: kind, name and path of each, in order
    files: tuple[tuple[ModelKind, str, Path], ...] = ()

    def get(self, kind: ModelKind, name: str) -> Path | None:
        """The file that a name stands for; None: the folder's of that name."""
        return next((path for each, called, path in self.files if (each, called) == (kind, name)), None)

    def of(self, kind: ModelKind) -> dict[str, Path]:
        """All of a kind, by name."""
        return {name: path for each, name, path in self.files if each == kind}


#: of a job without pinned files
NOTHING_PINNED = PinnedFiles()
