"""A1111's "Loopback": the farm's own, with a sheet of all results."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from PIL import Image
from pydantic import Field

from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import RenderRequest
from img2img_gateway.sdapi.scripts.script import Run, Script, Sheets, changed, first_picture
from img2img_shared.errors import Refused
from img2img_shared.loopback import Loop
from img2img_shared.param_groups.as_given import AsGiven
from img2img_shared.seeds import draw_seed, shift_seed
from img2img_shared.sheets.grid import GridOptions, in_rows, opened

_COLORS = "img2img_color_correction"


class Loopback(Script):
    """The script's arguments."""

    title: ClassVar = "loopback"
    of_txt2img: ClassVar = False

    loops: Annotated[int, Field(title="Loops", ge=1, le=32, json_schema_extra={"step": 1})] = 4
    final_strength: Annotated[
        float,
        Field(title="Final denoising strength", ge=0, le=1, json_schema_extra={"step": 0.01}),
        AsGiven(),
    ] = 0.5
    curve: Annotated[Literal["Aggressive", "Linear", "Lazy"], Field(title="Denoising strength curve")] = (
        "Linear"
    )
    interrogation: Annotated[
        Literal["None", "CLIP", "DeepBooru"], Field(title="Append interrogated prompt at each iteration")
    ] = "None"

    def run(self, request: RenderRequest, lenient: Leniency) -> Run:
        """One loop returns all its results; several loops return their last ones.

        Raises:
            Refused: it would have to read prompts from pictures.
        """
        if self.interrogation != "None":
            reason = "there is no network here that describes pictures; give None"
            raise Refused("script_args.interrogation", self.interrogation, reason)
        batches, first = request.n_iter, draw_seed(request.seed)
        kept = first_picture(request, lenient, self.title) | {"batch_size": 1, "n_iter": 1}
        seeds = [shift_seed(first, number * self.loops) for number in range(batches)]
        params = {
            "loopback": True,
            "loopback_loops": self.loops,
            "loopback_final_denoising_strength": self.final_strength,
            "loopback_denoising_curve": self.curve,
            "loopback_return_all": True,  # the first one's text is told of all
            # an option that the request brings is not set yet where A1111 takes the first one's colours
            "loopback_color_target": "each" if _COLORS in (request.override_settings or {}) else "first",
        }
        return Run(
            requests=[changed(request, kept | {"seed": seed}) for seed in seeds],
            params=params,
            shows_loops=batches == 1,
            sheets=RowSheet(count=self.loops if batches == 1 else batches),
            texts=lambda texts: texts[:1] * (self.loops if batches == 1 else len(texts)),
            account_changes=lambda account, _: (
                self._account(account) | {"all_seeds": [shift_seed(seeds[-1], self.loops - 1)], "seed": first}
            ),
        )

    def _account(self, account: Mapping[str, Any]) -> dict[str, Any]:
        """A1111's account of the last render, with the strength that one more would have."""
        loop = Loop(
            loops=self.loops,
            first=account["denoising_strength"],
            last=self.final_strength,
            curve=self.curve,
        )
        last = {"Denoising strength": loop.strength(self.loops - 1)}
        return {
            "all_prompts": account["all_prompts"][:1],
            "all_negative_prompts": account["all_negative_prompts"][:1],
            "all_subseeds": account["all_subseeds"][-1:],
            "denoising_strength": loop.strength(self.loops),
            "extra_generation_params": account["extra_generation_params"] | last,
            "subseed": -1,
            "batch_size": 1,
            "index_of_first_image": 0,
        }


@dataclass(frozen=True, kw_only=True)
class RowSheet(Sheets):
    """All pictures in one row."""

    count: int

    def is_wanted(self, options: GridOptions) -> bool:
        """See `Sheets`."""
        return options.return_grid and self.count > 1

    def size(self, cell: tuple[int, int], _: GridOptions) -> tuple[int, int]:
        """See `Sheets`."""
        return self.count * cell[0], cell[1]

    def drawn(
        self, pictures: Iterable[bytes], cell: tuple[int, int], options: GridOptions
    ) -> list[Image.Image]:
        """See `Sheets`."""
        return [in_rows(opened(pictures), (self.count, 1), cell, options.grid_background_color)]
