"""The folders in which files of one kind are looked for: the farm's own, and A1111's beside it."""

from pathlib import Path

from img2img_shared.checkpoints import A1111_FOLDER


def kind_folders(models_dir: Path | None, name: str, of_a1111: str | Path) -> tuple[Path, ...]:
    """Where files of one kind are looked for, the first place first; these need not exist.

    Args:
        models_dir: the folder of models; None: there are no places.
        name: the kind's folder within it.
        of_a1111: where A1111, or an extension of it, keeps the kind; relative to A1111's own folder, and
            looked at only if `models_dir` is the `models` in there.
    """
    if models_dir is None:
        return ()
    beside = (models_dir.parent / of_a1111,) if _is_a1111s(models_dir) else ()
    return (models_dir / name, *beside)


def _is_a1111s(models_dir: Path) -> bool:
    return models_dir.is_dir() and any(each.name.lower() == A1111_FOLDER for each in models_dir.iterdir())
