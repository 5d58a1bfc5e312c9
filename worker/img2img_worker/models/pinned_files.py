"""Which files a job means by names, where it has said so: not always the folder's of these names."""

from dataclasses import dataclass
from pathlib import Path

from img2img_shared.pushed_models.pushed_model import ModelKind


@dataclass(frozen=True)
class PinnedFiles:
    """Files by their kinds and what a job calls them. Equal where they are the same."""

    #: kind, name and path of each, in order
    files: tuple[tuple[ModelKind, str, Path], ...] = ()

    def get(self, kind: ModelKind, name: str) -> Path | None:
        """The file that is meant; None: whatever the folder has of that name."""
        return next((path for each, called, path in self.files if (each, called) == (kind, name)), None)

    def of(self, kind: ModelKind) -> dict[str, Path]:
        """All of a kind, by name."""
        return {name: path for each, name, path in self.files if each == kind}


#: of a job that has said nothing
NOTHING_PINNED = PinnedFiles()
