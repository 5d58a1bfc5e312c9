"""A1111's "Outpainting mk2": the farm's own outpainting, from noise."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from PIL import Image
from pydantic import Field

from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import RenderRequest
from img2img_gateway.sdapi.scripts.script import Run, Script, Sheets, changed, of_the_first
from img2img_gateway.sdapi.scripts.sides import Sides, first_picture_alone, sides_of
from img2img_shared.modes import InpaintingFill
from img2img_shared.seeds import draw_seed
from img2img_shared.sheets.grid import GridOptions, in_rows, opened

_HINT = (
    "The picture grows side after side. Many steps of an ancestral sampler and a denoising strength of 0.8 "
    "or more suit it."
)


class OutpaintingMk2(Script):
    """The script's arguments."""

    title: ClassVar = "outpainting mk2"
    of_txt2img: ClassVar = False

    hint: Annotated[Any, Field(title="")] = _HINT
    pixels: Annotated[int, Field(title="Pixels to expand", ge=8, le=256, json_schema_extra={"step": 8})] = 128
    mask_blur: Annotated[int, Field(title="Mask blur", ge=0, le=64, json_schema_extra={"step": 1})] = 8
    sides: Sides = ("left", "right", "up", "down")
    exponent: Annotated[
        float,
        Field(title="Fall-off exponent (lower=higher detail)", ge=0, le=4, json_schema_extra={"step": 0.01}),
    ] = 1.0
    variation: Annotated[
        float, Field(title="Color variation", ge=0, le=1, json_schema_extra={"step": 0.01})
    ] = 0.05

    def run(self, request: RenderRequest, lenient: Leniency) -> Run:
        """A batch for each iteration, all with the same seeds, as in A1111.

        Raises:
            Refused: no side is to grow.
        """
        changes = {
            **first_picture_alone(request, lenient, self.title),
            "inpainting_fill": int(InpaintingFill.ORIGINAL),
            "inpaint_full_res": False,
            "seed": draw_seed(request.seed),
            "subseed": draw_seed(request.subseed),
            "n_iter": 1,
        }
        params: dict[str, Any] = {
            "outpaint": sides_of(self.sides),
            "outpaint_method": "noise",
            "outpaint_pixels": self.pixels,
            "outpaint_mask_blur": self.mask_blur,
            "outpaint_noise_exponent": self.exponent,
            "outpaint_color_variation": self.variation,
        }
        count = request.batch_size
        return Run(
            requests=[changed(request, changes)] * request.n_iter,
            params=params,
            sheets=GridSheet(count=count * request.n_iter),
            texts=of_the_first,
            account_changes=lambda account, size: {
                **_of_a_batch(account, count),
                **of_the_last_render(params["outpaint"], self.mask_blur, account, size),
            },
        )


def of_the_last_render(
    sides: str, mask_blur: int, account: Mapping[str, Any], size: tuple[int, int]
) -> dict[str, Any]:
    """A1111 tells the size of the last render, which is a multiple of 64 where the picture did not grow then.

    Args:
        size: of the result.
    """
    across, down = "left" in sides or "right" in sides, "up" in sides or "down" in sides
    width, height = (-(-side // 64) * 64 for side in size)
    if down:
        height = min(account["height"], size[1])
    else:
        width = min(account["width"], size[0])
    # None: it differs between the axes
    blur = {"Mask blur": None} if mask_blur and across != down else {}
    extra = account["extra_generation_params"] | blur
    return {"width": width, "height": height, "extra_generation_params": extra}


def _of_a_batch(account: Mapping[str, Any], count: int) -> dict[str, Any]:
    """A1111's account, which is that of one batch."""
    names = ("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds")
    return {name: account[name][:count] for name in names} | {"subseed": -1, "index_of_first_image": 0}


@dataclass(frozen=True, kw_only=True)
class GridSheet(Sheets):
    """All pictures in rows, as the options say."""

    count: int

    def is_wanted(self, options: GridOptions) -> bool:
        """See `Sheets`."""
        return options.wants_grid(self.count)

    def size(self, cell: tuple[int, int], options: GridOptions) -> tuple[int, int]:
        """See `Sheets`."""
        columns, rows = options.size(self.count, 1)
        return columns * cell[0], rows * cell[1]

    def drawn(
        self, pictures: Iterable[bytes], cell: tuple[int, int], options: GridOptions
    ) -> list[Image.Image]:
        """See `Sheets`."""
        shape = options.size(self.count, 1)
        return [in_rows(opened(pictures), shape, cell, options.grid_background_color)]
