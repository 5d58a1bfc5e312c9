"""The protocol by which a recipe asks for renders and gets their results."""

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from numpy.typing import NDArray

from img2img_worker.engine.render import Render

T = TypeVar("T")

#: yields renders that may run side by side, and is sent what comes of them in the same order
RenderSteps = Generator[Sequence[Render], Sequence[NDArray[Any]], T]
