"""Face restorers by A1111's names."""

from typing import Literal

FaceRestorer = Literal["CodeFormer", "GFPGAN"]
FACE_RESTORERS: tuple[FaceRestorer, ...] = ("CodeFormer", "GFPGAN")
