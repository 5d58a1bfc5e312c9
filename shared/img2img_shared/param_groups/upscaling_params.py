"""Parameters of upscalers' networks."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from img2img_shared.errors import Refused
from img2img_shared.param_groups.group import ParamGroup

TileSize = Annotated[int, Field(ge=0, le=4096)]
TileOverlap = Annotated[int, Field(ge=0, le=512)]


class UpscalingParams(ParamGroup):
    """In which tiles networks enlarge pictures: by the folder that a network's file lies in."""

    esrgan_tile: Annotated[
        TileSize,
        Field(
            title="ESRGAN tile size",
            description="Side of a tile of networks in ESRGAN, RealESRGAN and HAT, in pixels; 0: no tiles.",
            examples=[256],
        ),
    ] = 192
    esrgan_tile_overlap: Annotated[
        TileOverlap,
        Field(title="ESRGAN tile overlap", description="Overlap of these tiles, in pixels.", examples=[16]),
    ] = 8
    dat_tile: Annotated[
        TileSize,
        Field(
            title="DAT tile size",
            description="Side of a tile of networks in DAT; 0: no tiles.",
            examples=[256],
        ),
    ] = 192
    dat_tile_overlap: Annotated[
        TileOverlap,
        Field(title="DAT tile overlap", description="Overlap of these tiles, in pixels.", examples=[16]),
    ] = 8
    swin_tile: Annotated[
        TileSize,
        Field(
            title="SwinIR tile size",
            description="Side of a tile of networks in SwinIR; 0: no tiles.",
            examples=[256],
        ),
    ] = 192
    swin_tile_overlap: Annotated[
        TileOverlap,
        Field(title="SwinIR tile overlap", description="Overlap of these tiles, in pixels.", examples=[16]),
    ] = 8
    scunet_tile: Annotated[
        TileSize,
        Field(
            title="ScuNET tile size",
            description="Side of a tile of networks in ScuNET; 0: no tiles.",
            examples=[512],
        ),
    ] = 256
    scunet_tile_overlap: Annotated[
        TileOverlap,
        Field(title="ScuNET tile overlap", description="Overlap of these tiles, in pixels.", examples=[16]),
    ] = 8

    @model_validator(mode="after")
    def _tiles_are_larger_than_their_overlap(self) -> Self:
        for name in ("esrgan_tile", "dat_tile", "swin_tile", "scunet_tile"):
            size, overlap = getattr(self, name), getattr(self, f"{name}_overlap")
            if 0 < size <= overlap:
                raise Refused(f"{name}_overlap", overlap, f"give less than {name}, which is {size}")
        return self
