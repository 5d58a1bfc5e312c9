"""A1111's "X/Y/Z plot": a render for each combination of up to three axes' values, and sheets."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Annotated, Any, ClassVar

from PIL import Image
from pydantic import Field

from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import RenderRequest, Txt2ImgRequest
from img2img_gateway.sdapi.scripts.script import Run, Script, Sheets, changed, check_count
from img2img_gateway.sdapi.scripts.xyz_axes import NOTHING, Axis, axes_of, axis_of
from img2img_gateway.sdapi.scripts.xyz_values import written
from img2img_shared.errors import Summary
from img2img_shared.infotext_parser import quoted
from img2img_shared.seeds import draw_seed, shift_seed
from img2img_shared.sheets.captions import Caption, captioned, captioned_size
from img2img_shared.sheets.grid import GridOptions, in_rows, larger, opened

Kind = int | Annotated[str, Field(max_length=100)]
Text = Annotated[str, Field(max_length=20_000)]
Chosen = Annotated[
    list[Annotated[str, Field(max_length=1000)]], Field(max_length=1000, json_schema_extra={"enum": []})
]


class XyzPlot(Script):
    """The script's arguments."""

    title: ClassVar = "x/y/z plot"

    x_type: Annotated[Kind, Field(title="X type")] = "Seed"
    x_values: Annotated[Text, Field(title="X values")] = ""
    x_chosen: Annotated[Chosen | None, Field(title="X values")] = None
    y_type: Annotated[Kind, Field(title="Y type")] = "Nothing"
    y_values: Annotated[Text, Field(title="Y values")] = ""
    y_chosen: Annotated[Chosen | None, Field(title="Y values")] = None
    z_type: Annotated[Kind, Field(title="Z type")] = "Nothing"
    z_values: Annotated[Text, Field(title="Z values")] = ""
    z_chosen: Annotated[Chosen | None, Field(title="Z values")] = None
    draw_legend: Annotated[bool, Field(title="Draw legend")] = True
    include_pictures: Annotated[bool, Field(title="Include Sub Images")] = False
    include_sub_grids: Annotated[bool, Field(title="Include Sub Grids")] = False
    keep_drawn_seeds: Annotated[bool, Field(title="Keep -1 for seeds")] = False
    vary_seeds_x: Annotated[bool, Field(title="Vary seeds for X")] = False
    vary_seeds_y: Annotated[bool, Field(title="Vary seeds for Y")] = False
    vary_seeds_z: Annotated[bool, Field(title="Vary seeds for Z")] = False
    margin_size: Annotated[
        int, Field(title="Grid margins (px)", ge=0, le=500, json_schema_extra={"step": 2})
    ] = 0
    takes_texts: Annotated[bool, Field(title="Use text inputs instead of dropdowns")] = False

    def run(self, request: RenderRequest, lenient: Leniency) -> Run:
        """One picture for each cell: x varies fastest, z slowest.

        Raises:
            Refused: an axis is unknown, or has no values, or too many.
        """
        if request.batch_size * request.n_iter > 1:
            why = f"{self.title} shows one picture in a cell, as in A1111"
            lenient.set_aside("batch_size, n_iter", Summary(f"{request.batch_size}, {request.n_iter}"), why)
        batch, count = request.batch_size, request.batch_size * request.n_iter
        alone: dict[str, Any] = {"batch_size": 1, "n_iter": 1}
        if not self.keep_drawn_seeds:
            alone |= {"seed": draw_seed(request.seed), "subseed": draw_seed(request.subseed)}
        request = changed(request, alone)
        x, y, z = (self._spread(name, request) for name in "xyz")
        check_count(len(x.values) * len(y.values) * len(z.values), "script_args")
        cells = product(enumerate(z.values), enumerate(y.values), enumerate(x.values))
        requests = []
        for (plane, of_z), (row, of_y), (column, of_x) in cells:
            cell = request
            for spread, value in ((x, of_x), (y, of_y), (z, of_z)):
                cell = changed(cell, spread.axis.changes(cell, value, spread.values))
            later = self._later(column, row, plane, len(x.values), len(y.values))
            requests.append(changed(cell, {"seed": shift_seed(cell.seed, later)}) if later else cell)
        sheets = PlotSheets(
            x=x,
            y=y,
            z=z,
            margin=self.margin_size,
            draws_legend=self.draw_legend,
            includes_planes=self.include_sub_grids,
        )
        return Run(
            requests=requests,
            sheets=sheets,
            sends_pictures=self.include_pictures,
            account_changes=lambda account, _: {
                **sheets.account_changes(account, [cell.prompt for cell in requests], count),
                **_of_cell(requests[0], account),
                "batch_size": batch,
            },
        )

    @classmethod
    def info(cls, *, img2img: bool) -> dict[str, Any]:
        """The script as A1111 lists it, with the axes of that route as choices."""
        info = super().info(img2img=img2img)
        for number in (0, 3, 6):
            info["args"][number]["choices"] = [axis.label for axis in axes_of(img2img=img2img)]
            info["args"][number + 2]["choices"] = []
        return info

    def _spread(self, name: str, request: RenderRequest) -> "Spread":
        field = f"script_args.{name}_values"
        axis = axis_of(
            getattr(self, f"{name}_type"),
            f"script_args.{name}_type",
            img2img=not isinstance(request, Txt2ImgRequest),
        )
        text, chosen = getattr(self, f"{name}_values"), getattr(self, f"{name}_chosen") or []
        if not axis.has_choices or self.takes_texts:
            chosen = []
        values = axis.values(text, chosen, field)
        fixed = values if self.keep_drawn_seeds else axis.with_seeds(values)
        told = written(chosen) if chosen else text
        return Spread(axis=axis, values=fixed, text=told, tells_seeds=not self.keep_drawn_seeds)

    def _later(self, column: int, row: int, plane: int, columns: int, rows: int) -> int:
        """By how much a cell's seed is later than the first cell's."""
        across = columns if self.vary_seeds_x else 1
        down = rows if self.vary_seeds_y else 1
        later = column * self.vary_seeds_x + row * across * self.vary_seeds_y
        return later + plane * across * down * self.vary_seeds_z


@dataclass(frozen=True, kw_only=True)
class Spread:
    """An axis with its values."""

    axis: Axis
    values: Sequence[Any]
    #: as they were written
    text: str
    #: whether seeds of it may have been drawn
    tells_seeds: bool

    def captions(self) -> list[list[Caption]]:
        """A caption for each value."""
        return [[Caption(self.axis.caption(self.axis.label, value))] for value in self.values]

    def pairs(self, name: str) -> dict[str, str]:
        """The entries of an infotext on it."""
        if self.axis is NOTHING:
            return {}
        pairs = {f"{name} Type": self.axis.label, f"{name} Values": self.text}
        if self.axis.is_of_seeds and self.tells_seeds:
            pairs[f"Fixed {name} Values"] = ", ".join(map(str, self.values))
        return pairs


@dataclass(frozen=True, kw_only=True)
class PlotSheets(Sheets):
    """A sheet of everything; then, if they are wanted, its planes: one for each value of z."""

    x: Spread
    y: Spread
    z: Spread
    #: pixels between two pictures
    margin: int
    draws_legend: bool
    includes_planes: bool

    def size(self, cell: tuple[int, int], _: GridOptions) -> tuple[int, int]:
        """See `Sheets`."""
        columns, rows, planes = self._shape
        if not self.draws_legend:
            return cell[0] * columns * planes, cell[1] * rows
        plane = captioned_size(self.x.captions(), self.y.captions(), cell, self.margin)
        return captioned_size(self.z.captions(), [[Caption("")]], plane)

    def drawn(self, pictures: Iterable[bytes], _: tuple[int, int], options: GridOptions) -> list[Image.Image]:
        """See `Sheets`."""
        planes = list(self._planes(pictures, options))
        size = max(each.width for each in planes), max(each.height for each in planes)
        whole = in_rows(planes, (len(planes), 1), size, options.grid_background_color)
        if self.draws_legend:
            whole = captioned(whole, self.z.captions(), [[Caption("")]], size, options)
        return [whole, *(planes if self.includes_planes else ())]

    def texts(self, texts: Sequence[str]) -> list[str]:
        """See `Sheets`."""
        columns, rows, planes = self._shape
        pairs = self._plane_pairs()
        whole = _with_pairs(texts[0], pairs | self.z.pairs("Z"))
        if not self.includes_planes:
            return [whole]
        return [whole, *(_with_pairs(texts[columns * rows * plane], pairs) for plane in range(planes))]

    def account_changes(
        self, account: Mapping[str, Any], prompts: Sequence[str], count: int
    ) -> dict[str, Any]:
        """A1111's account: also the seeds and prompts of the planes, prompts as they were sent.

        Otherwise it is the first cell's, which does not mention the plot.

        Args:
            prompts: those of the cells.
            count: how many pictures A1111 renders for a cell, of which it shows the first.
        """
        columns, rows, planes = self._shape
        firsts = [columns * rows * plane for plane in range(planes)] if self.includes_planes else []
        of_plot = self._plane_pairs() | self.z.pairs("Z")
        extra = account["extra_generation_params"].items()
        changes: dict[str, Any] = {
            "extra_generation_params": {name: value for name, value in extra if name not in of_plot}
        }
        for name, each in (("all_prompts", prompts), ("all_seeds", account["all_seeds"])):
            changes[name] = [*(each[first] for first in firsts), *each]
        subseed = account["all_subseeds"][0]
        return changes | {
            "prompt": prompts[0],
            "all_negative_prompts": account["all_negative_prompts"][:1] * count,
            "all_subseeds": [shift_seed(subseed, later) for later in range(count)],
        }

    def _plane_pairs(self) -> dict[str, str]:
        """The entries on the plot in a plane's infotext."""
        return {"Script": "X/Y/Z plot"} | self.x.pairs("X") | self.y.pairs("Y")

    @property
    def _shape(self) -> tuple[int, int, int]:
        return len(self.x.values), len(self.y.values), len(self.z.values)

    def _planes(self, pictures: Iterable[bytes], options: GridOptions) -> Iterator[Image.Image]:
        columns, rows, planes = self._shape
        upcoming = iter(pictures)
        for _ in range(planes):
            files, size = list(islice(upcoming, columns * rows)), (0, 0)
            for file in files:
                size = larger(size, file)
            plane = in_rows(opened(files), (columns, rows), size, options.grid_background_color)
            if self.draws_legend:
                across, down = self.x.captions(), self.y.captions()
                plane = captioned(plane, across, down, size, options, self.margin)
            yield plane


def _of_cell(cell: RenderRequest, account: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of A1111's account that are the first cell's and not the request's."""
    changed_fields = cell.model_fields_set & account.keys() - _OF_IMAGES
    return {name: getattr(cell, name) for name in changed_fields if getattr(cell, name) is not None}


#: what is told of each image
_OF_IMAGES = {"prompt", "negative_prompt", "seed", "subseed"}


def _with_pairs(text: str, pairs: Mapping[str, str]) -> str:
    """An infotext with further entries, before its version."""
    head, mark, version = text.rpartition(", Version: ")
    return head + "".join(f", {name}: {quoted(value)}" for name, value in pairs.items()) + mark + version
