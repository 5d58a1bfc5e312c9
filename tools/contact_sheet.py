"""A contact sheet: titled rows of labelled pictures on one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

#: side of the square that a picture is fitted into, in pixels
TILE = 176
_GAP, _MARGIN = 12, 36
_LABEL, _TITLE, _HEAD = 14, 24, 40
#: lines of a label, and pixels from one to the next
_LINES, _LEADING = 3, 18
_PAPER, _INK, _FAINT, _LINE = "#f6f3ec", "#22252b", "#6b6f78", "#d9d4c8"


class Tile(NamedTuple):
    """A picture and its label; None: the place stays empty."""

    label: str
    picture: Image.Image | None


@dataclass(frozen=True, kw_only=True)
class Section:
    """A title, a line that explains it, and rows of tiles."""

    title: str
    text: str
    rows: Sequence[Sequence[Tile]]


def write_sheet(path: Path, title: str, text: str, sections: Sequence[Section]) -> None:
    """Draw the sections one below the other, and write a PNG to `path`."""
    columns = max(len(row) for section in sections for row in section.rows)
    row_height = TILE + _LINES * _LEADING + _GAP
    width = 2 * _MARGIN + columns * (TILE + _GAP) - _GAP
    heights = [_TITLE + _LABEL + 4 * _GAP + len(section.rows) * row_height for section in sections]
    head = _MARGIN + _HEAD + _LABEL + 3 * _GAP
    sheet = Image.new("RGB", (width, head + sum(heights) + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), title, _INK, _font(_HEAD))
    pen.text((_MARGIN, _MARGIN + _HEAD + _GAP), text, _FAINT, _font(_LABEL))
    top = head
    for section, height in zip(sections, heights, strict=True):
        _draw_section(sheet, pen, section, top, row_height)
        top += height
    sheet.save(path, optimize=True)


def _draw_section(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, section: Section, top: int, row_height: int
) -> None:
    pen.line((_MARGIN, top, sheet.width - _MARGIN, top), _LINE)
    pen.text((_MARGIN, top + _GAP), section.title, _INK, _font(_TITLE))
    pen.text((_MARGIN, top + _TITLE + 2 * _GAP), section.text, _FAINT, _font(_LABEL))
    y = top + _TITLE + _LABEL + 3 * _GAP + 4
    for row in section.rows:
        for column, tile in enumerate(row):
            x = _MARGIN + column * (TILE + _GAP)
            if tile.picture is not None:
                _paste(sheet, tile.picture, x, y)
            for number, line in enumerate(_lines(tile.label)):
                pen.text((x, y + TILE + 5 + number * _LEADING), line, _INK, _font(_LABEL))
        y += row_height


def _paste(sheet: Image.Image, picture: Image.Image, x: int, y: int) -> None:
    """The picture fitted into the tile, centred; a transparent one over a chequered ground."""
    scale = TILE / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    fitted = picture.convert("RGBA").resize(size, Image.Resampling.LANCZOS)
    ground = Image.new("RGBA", size, "#ffffff")
    if fitted.getchannel("A").getextrema() != (255, 255):
        pen = ImageDraw.Draw(ground)
        for row in range(0, size[1], 8):
            for column in range(row % 16, size[0], 16):
                pen.rectangle((column, row, column + 7, row + 7), "#d8d8d8")
    ground.alpha_composite(fitted)
    sheet.paste(ground.convert("RGB"), (x + (TILE - size[0]) // 2, y + (TILE - size[1]) // 2))


def _lines(label: str) -> list[str]:
    """The label's lines, broken at spaces to the tile's width; the rest becomes an ellipsis."""
    font, lines = _font(_LABEL), [""]
    for word in label.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= TILE or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], lines[_LINES - 1] + " ..."]
    return lines


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
