"""A1111's grid: the pictures of one call side by side in one picture."""

import io
import math
from collections.abc import Iterable, Iterator
from typing import Annotated

from PIL import Image, ImageColor, PngImagePlugin
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

#: pixels of a grid, at most: it is held in memory
MOST_PIXELS = 64_000_000


def _is_colour(text: str) -> str:
    ImageColor.getrgb(text)
    return text


Colour = Annotated[str, AfterValidator(_is_colour)]


class GridOptions(BaseModel):
    """A1111's options for grids."""

    model_config = ConfigDict(frozen=True)

    return_grid: bool = True
    #: one picture by itself has none
    grid_only_if_multiple: bool = True
    grid_prevent_empty_spots: bool = False
    #: 0: as many as a batch has pictures; -1: as many as columns
    n_rows: Annotated[int, Field(ge=-1, le=1000)] = -1
    grid_background_color: Colour = "#ffffff"
    #: of the captions beside a script's sheet
    grid_text_active_color: Colour = "#000000"
    #: and of those that are struck through
    grid_text_inactive_color: Colour = "#999999"

    def wants_grid(self, count: int) -> bool:
        """Whether so many pictures get a grid."""
        return self.return_grid and count > (1 if self.grid_only_if_multiple else 0)

    def size(self, count: int, batch_size: int) -> tuple[int, int]:
        """(columns, rows) of a grid of so many pictures."""
        rows = self.n_rows or batch_size
        if rows < 0 and self.grid_prevent_empty_spots:
            rows = max(each for each in range(1, math.isqrt(count) + 1) if count % each == 0)
        elif rows < 0:
            rows = round(math.sqrt(count))
        rows = min(rows, count)
        return math.ceil(count / rows), rows


def larger(cell: tuple[int, int], picture: bytes) -> tuple[int, int]:
    """The width and height of a cell that can hold `cell` and `picture`."""
    with Image.open(io.BytesIO(picture)) as header:
        return max(cell[0], header.width), max(cell[1], header.height)


def grid(
    pictures: Iterable[bytes], size: tuple[int, int], cell: tuple[int, int], background: str, text: str
) -> bytes:
    """A PNG of pictures in rows (see `in_rows`), with an infotext."""
    return png(in_rows(opened(pictures), size, cell, background), text)


def in_rows(
    pictures: Iterable[Image.Image], size: tuple[int, int], cell: tuple[int, int], background: str
) -> Image.Image:
    """Pictures in rows, each in the middle of its cell.

    Args:
        size: columns and rows.
        cell: width and height of the largest picture.
        background: a colour, by name or as "#rrggbb".
    """
    (columns, rows), (width, height) = size, cell
    sheet = Image.new("RGBA", (columns * width, rows * height), ImageColor.getcolor(background, "RGBA"))
    for i, picture in enumerate(pictures):
        left = i % columns * width + (width - picture.width) // 2
        top = i // columns * height + (height - picture.height) // 2
        sheet.paste(picture.convert("RGBA"), (left, top))
    return sheet


def opened(pictures: Iterable[bytes]) -> Iterator[Image.Image]:
    """Pictures from their files, each open only while it is used."""
    for data in pictures:
        with Image.open(io.BytesIO(data)) as picture:
            yield picture


def png(sheet: Image.Image, text: str | None = None) -> bytes:
    """A sheet as a PNG file."""
    chunks = PngImagePlugin.PngInfo()
    if text is not None:
        chunks.add_text("parameters", text)
    file = io.BytesIO()
    sheet.save(file, "PNG", pnginfo=chunks)
    return file.getvalue()
