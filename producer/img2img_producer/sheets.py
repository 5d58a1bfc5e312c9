"""Lays out the results of an input's variations in one picture with captions, as A1111's scripts do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from img2img_producer.inputs import Picture
from img2img_producer.outputs import save
from img2img_producer.varied import Axis, Varied
from img2img_shared.errors import Refused


def check_sheets(pictures: Sequence[Picture]) -> None:
    """Check that sheets can be drawn of these inputs, and on this machine.

    Raises:
        Refused: nothing varies, or a package for drawing is not installed.
    """
    if not isinstance(pictures, Varied):
        raise Refused("sheet", True, "say what varies with it: --vary, --prompt-matrix or --prompts-file")
    try:
        import img2img_shared.sheets.captions  # noqa: F401 (whether it can be)
    except ImportError as error:
        reason = f"it needs {error.name}: pip install 'img2img-farm[gateway]'"
        raise Refused("sheet", True, reason) from None


def save_sheets(varied: Varied, files: Mapping[int, Path], out: Path, *, overwrite: bool) -> list[Path]:
    """Save a sheet for each input with all its results: ``NAME-sheet.png``.

    Args:
        files: results by their index; if a choice has several outputs, the first is shown.

    Raises:
        Refused: a sheet would be too large, or another file is there.
        FarmError: a file cannot be read or written.
    """
    saved = []
    for at, picture in enumerate(varied.inputs):
        first = at * varied.choices
        shown = [files.get((first + number) * varied.outputs) for number in range(varied.choices)]
        if found := [path for path in shown if path is not None and path.exists()]:
            if len(found) < len(shown):
                continue
            name = f"{picture.label or f'input-{at + 1}'}-sheet.png"
            path = (out / picture.folder if picture.folder else out) / name
            save(_draw([each.read_bytes() for each in found], varied.axes), path, overwrite=overwrite)
            saved.append(path)
    return saved


def _draw(pictures: Sequence[bytes], axes: Sequence[Axis]) -> bytes:
    """A PNG: the first axis across, all others down."""
    from img2img_shared.sheets.captions import Caption, captioned, captioned_size
    from img2img_shared.sheets.grid import MOST_PIXELS, GridOptions, in_rows, larger, opened, png

    across = [[Caption(_label(choice))] for choice in axes[0].choices]
    rows: list[list[Mapping[str, Any]]] = [[]]
    for axis in axes[1:]:  # the second counts fastest
        rows = [[*row, choice] for choice in axis.choices for row in rows]
    down = [[Caption(_label(choice)) for choice in row] or [Caption("")] for row in rows]
    cell = (0, 0)
    for each in pictures:
        cell = larger(cell, each)
    width, height = captioned_size(across, down, cell)
    if width * height > MOST_PIXELS:
        reason = f"it would have {width} × {height} pixels; let fewer values vary"
        raise Refused("sheet", True, reason)
    options = GridOptions()
    plain = in_rows(opened(pictures), (len(across), len(down)), cell, options.grid_background_color)
    return png(captioned(plain, across, down, cell, options))


def _label(choice: Mapping[str, Any]) -> str:
    return ", ".join(str(value) if name == "prompt" else f"{name}: {value}" for name, value in choice.items())
