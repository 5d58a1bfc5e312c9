"""A1111's "Prompt matrix": a render for each combination of a prompt's parts between bars, and a sheet."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from PIL import Image
from pydantic import Field

from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import RenderRequest
from img2img_gateway.sdapi.scripts.script import Run, Script, Sheets, changed, check_count
from img2img_shared.prompt_choices import matrix, parts_of
from img2img_shared.seeds import draw_seed, shift_seed
from img2img_shared.sheets.captions import Caption, captioned, captioned_size
from img2img_shared.sheets.grid import GridOptions, in_rows, opened


class PromptMatrix(Script):
    """The script's arguments."""

    title: ClassVar = "prompt matrix"

    put_at_start: Annotated[bool, Field(title="Put variable parts at start of prompt")] = False
    different_seeds: Annotated[bool, Field(title="Use different seed for each picture")] = False
    prompt_type: Annotated[Literal["positive", "negative"], Field(title="Select prompt")] = "positive"
    delimiter: Annotated[Literal["comma", "space"], Field(title="Select joining char")] = "comma"
    margin_size: Annotated[
        int, Field(title="Grid margins (px)", ge=0, le=500, json_schema_extra={"step": 2})
    ] = 0

    def run(self, request: RenderRequest, _: Leniency) -> Run:
        """Every combination of the parts after the first one; the first part's bit counts least.

        Raises:
            Refused: there are too many.
        """
        name = "prompt" if self.prompt_type == "positive" else "negative_prompt"
        prompt = getattr(request, name)
        parts = parts_of(prompt, name)[1]
        check_count(1 << len(parts), name)
        joint = ", " if self.delimiter == "comma" else " "
        seed, subseed = draw_seed(request.seed), draw_seed(request.subseed)
        requests = []
        for number, choice in enumerate(matrix(prompt, name, joint=joint, at_start=self.put_at_start)):
            changes = {
                name: choice,
                "seed": shift_seed(seed, number if self.different_seeds else 0),
                "subseed": shift_seed(subseed, number),
                "batch_size": 1,
                "n_iter": 1,
            }
            requests.append(changed(request, changes))
        return Run(requests=requests, sheets=MatrixSheet(parts=tuple(parts), margin=self.margin_size))


@dataclass(frozen=True, kw_only=True)
class MatrixSheet(Sheets):
    """One half of the parts vary along the columns, the other along the rows."""

    parts: tuple[str, ...]
    #: pixels between two pictures
    margin: int

    def size(self, cell: tuple[int, int], _: GridOptions) -> tuple[int, int]:
        """See `Sheets`."""
        return captioned_size(self._across, self._down, cell, self.margin)

    def drawn(
        self, pictures: Iterable[bytes], cell: tuple[int, int], options: GridOptions
    ) -> list[Image.Image]:
        """See `Sheets`."""
        shape = len(self._across), len(self._down)
        plain = in_rows(opened(pictures), shape, cell, options.grid_background_color)
        return [captioned(plain, self._across, self._down, cell, options, self.margin)]

    @property
    def _across(self) -> list[list[Caption]]:
        return _choices(self.parts[: (len(self.parts) + 1) // 2])

    @property
    def _down(self) -> list[list[Caption]]:
        return _choices(self.parts[(len(self.parts) + 1) // 2 :])


def _choices(parts: tuple[str, ...]) -> list[list[Caption]]:
    """A caption of all parts for each combination, with those left out struck through."""
    return [
        [Caption(part, is_struck=not number >> i & 1) for i, part in enumerate(parts)]
        for number in range(1 << len(parts))
    ]
