"""Captions on a sheet of pictures, above its columns and left of its rows, as A1111 draws them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from font_roboto import Roboto
from PIL import Image, ImageColor, ImageDraw, ImageFont

from img2img_shared.sheets.grid import GridOptions

Font = ImageFont.FreeTypeFont


@dataclass(frozen=True)
class Caption:
    """The text of a column or a row."""

    text: str
    #: whether it is grey, with a line through it
    is_struck: bool = False


#: letters with a dot, and others that are as high without
_DOTLESS = str.maketrans("ij", "ll")

#: of each column or row, its texts one below the other
Captions = Sequence[Sequence[Caption]]


@dataclass(frozen=True, kw_only=True)
class _Block:
    """The lines of one column's or row's captions."""

    lines: tuple[Caption, ...]
    sizes: tuple[tuple[int, int], ...]

    @property
    def heights(self) -> int:
        return sum(height for _, height in self.sizes)


class _Layout:
    """The layout of captions, for pictures of one size."""

    def __init__(self, across: Captions, down: Captions, cell: tuple[int, int]) -> None:
        width, height = cell
        self.font_size = max(1, (width + height) // 25)
        self.spacing = self.font_size // 2
        is_named = any(caption.text for row in down for caption in row)
        self.left = width * 3 // 4 if is_named else 0
        font = _font(self.font_size)
        self.across = [_block(captions, font, width) for captions in across]
        self.down = [_block(captions, font, self.left) for captions in down]
        #: of the columns' captions; A1111 leaves another space out of the rows'
        self.across_heights = [each.heights + self.spacing * (len(each.lines) - 1) for each in self.across]
        self.down_heights = [each.heights for each in self.down]
        self.top = max(self.across_heights) + 2 * self.spacing if sum(self.across_heights) else 0


def captioned_size(
    across: Captions, down: Captions, cell: tuple[int, int], margin: int = 0
) -> tuple[int, int]:
    """The width and height of `captioned`."""
    layout, (width, height) = _Layout(across, down, cell), cell
    columns, rows = len(across), len(down)
    return (
        layout.left + columns * width + margin * (columns - 1),
        layout.top + rows * height + margin * (rows - 1),
    )


def captioned(
    plain: Image.Image,
    across: Captions,
    down: Captions,
    cell: tuple[int, int],
    options: GridOptions,
    margin: int = 0,
) -> Image.Image:
    """`plain` with captions, and with `margin` pixels between its pictures.

    Source: A1111's ``draw_grid_annotations``.

    Args:
        plain: pictures in rows, as many as there are captions `across` and `down`, each as large as `cell`.
    """
    layout, (width, height) = _Layout(across, down, cell), cell
    background = ImageColor.getcolor(options.grid_background_color, "RGB")
    sheet = Image.new("RGB", captioned_size(across, down, cell, margin), background)
    for row in range(len(down)):
        for column in range(len(across)):
            box = (width * column, height * row, width * (column + 1), height * (row + 1))
            place = (layout.left + (width + margin) * column, layout.top + (height + margin) * row)
            sheet.paste(plain.crop(box), place)
    draw = ImageDraw.Draw(sheet)
    for column, block in enumerate(layout.across):
        x = layout.left + (width + margin) * column + width / 2
        _draw(draw, x, layout.top / 2 - layout.across_heights[column] / 2, block, layout, width, options)
    for row, block in enumerate(layout.down):
        y = layout.top + (height + margin) * row + height / 2 - layout.down_heights[row] / 2
        _draw(draw, layout.left / 2, y, block, layout, layout.left, options)
    return sheet


def _draw(
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    block: _Block,
    layout: _Layout,
    room: int,
    options: GridOptions,
) -> None:
    """Draw lines below each other around `x`, down from `y`; those wider than `room` in smaller letters."""
    for line, (width, height) in zip(block.lines, block.sizes, strict=True):
        size = layout.font_size
        while size > 1 and _extent(line.text, _font(size))[0] > room:
            size -= 1
        name = options.grid_text_inactive_color if line.is_struck else options.grid_text_active_color
        colour = ImageColor.getcolor(name, "RGB")
        middle = y + height / 2
        draw.text((x, middle), line.text, fill=colour, font=_font(size), anchor="mm")
        if line.is_struck:
            level = y + height // 2
            draw.line((x - width // 2, level, x + width // 2, level), fill=colour, width=4)
        y += height + layout.spacing


def _block(captions: Sequence[Caption], font: Font, room: int) -> _Block:
    """Captions wrapped at `room` pixels."""
    lines = tuple(replace(each, text=line) for each in captions for line in _wrapped(each.text, font, room))
    return _Block(lines=lines, sizes=tuple(_extent(line.text, font) for line in lines))


def _wrapped(text: str, font: Font, room: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _extent(text: str, font: Font) -> tuple[int, int]:
    """Width and height of a line as A1111's FreeType draws it; ours lifts the dots of small letters."""
    left, top, right, bottom = font.getbbox(text)
    _, top_without_dots, _, _ = font.getbbox(text.translate(_DOTLESS))
    return int(right - left), int(bottom - max(top, top_without_dots))


def _font(size: int) -> Font:
    return ImageFont.truetype(Roboto, size)
