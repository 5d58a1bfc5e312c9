"""A1111's "SD upscale": the farm's own."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import Field

from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import RenderRequest
from img2img_gateway.sdapi.scripts.script import Run, Script, changed, first_picture, of_the_first
from img2img_shared.errors import Refused
from img2img_shared.seeds import seeds_of, shift_seed
from img2img_shared.tile_places import places
from img2img_shared.upscaler_names import BUILT_IN


class SdUpscale(Script):
    """The script's arguments."""

    title: ClassVar = "sd upscale"
    of_txt2img: ClassVar = False

    info_text: Annotated[Any, Field(title="")] = None
    overlap: Annotated[int, Field(title="Tile overlap", ge=0, le=256, json_schema_extra={"step": 16})] = 64
    upscaler: Annotated[
        int | Annotated[str, Field(max_length=255)],
        Field(title="Upscaler", json_schema_extra={"enum": list(BUILT_IN)}),
    ] = "None"
    factor: Annotated[float, Field(title="Scale Factor", ge=1, le=4, json_schema_extra={"step": 0.05})] = 2.0

    def run(self, request: RenderRequest, lenient: Leniency) -> Run:
        """A picture for each iteration.

        Raises:
            Refused: there is no upscaler with this number.
        """
        changes = {
            **first_picture(request, lenient, self.title),
            "n_iter": 1,
            "batch_size": request.n_iter,
        }
        params = {
            "sd_upscale": True,
            "sd_upscale_overlap": self.overlap,
            "sd_upscale_upscaler": self._name(),
            "sd_upscale_factor": self.factor,
            "sd_upscale_batch": request.batch_size,
        }
        return Run(
            requests=[changed(request, changes)],
            params=params,
            texts=of_the_first,
            account_changes=partial(self._account, request.batch_size, request.n_iter),
        )

    def _account(
        self, batch: int, iterations: int, account: Mapping[str, Any], size: tuple[int, int]
    ) -> dict[str, Any]:
        """A1111's account, with the seeds of the last tiles."""
        sides = zip(size, (account["width"], account["height"]), strict=True)
        tiles = math.prod(len(places(side, tile, self.overlap)) for side, tile in sides)
        seed = shift_seed(account["seed"], iterations - 1 + math.ceil(tiles / batch) - 1)
        strength = account["subseed_strength"]
        last = [seeds_of(seed, account["all_subseeds"][0], strength, number) for number in range(batch)]
        return {
            **{name: account[name][:1] * batch for name in ("all_prompts", "all_negative_prompts")},
            "all_seeds": [seed for seed, _ in last],
            "all_subseeds": [subseed for _, subseed in last],
            "subseed": -1,
        }

    def _name(self) -> str:
        """The upscaler, by its index among those that A1111 has without files."""
        if isinstance(self.upscaler, str):
            return self.upscaler
        if not 0 <= self.upscaler < len(BUILT_IN):
            names = ", ".join(f"{number} ({name})" for number, name in enumerate(BUILT_IN))
            raise Refused("script_args.upscaler", self.upscaler, f"give {names}, or a name")
        return BUILT_IN[self.upscaler]
