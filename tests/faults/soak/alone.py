"""Renders images alone, by a farm whose only worker renders one image at a time."""

import io
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from PIL import Image

from tests.faults.farm import FaultyFarm, ForkServer
from tests.faults.soak.recipes import Recipe

#: a picture's size and pixels; or why there is none
Outcome = tuple[tuple[int, int], bytes] | str


def pixels(data: bytes) -> Outcome:
    """The size and pixels of an encoded picture."""
    with Image.open(io.BytesIO(data)) as image:
        return image.size, image.convert("RGB").tobytes()


class Alone:
    """A farm without faults, beside the one that has them."""

    def __init__(self, folder: Path, fork_server: ForkServer, checkpoint: Path) -> None:
        folder.mkdir()
        self._farm = FaultyFarm(folder, fork_server, checkpoint)
        self._known: dict[tuple[Recipe, bytes], Outcome] = {}

    def render(self, wanted: Iterable[tuple[Recipe, bytes]]) -> None:
        """Render each of these images once."""
        inputs: defaultdict[Recipe, list[bytes]] = defaultdict(list)
        for recipe, image in sorted(set(wanted), key=repr):
            inputs[recipe].append(image)
        self._farm.worker(slots=1)
        for recipe, images in inputs.items():
            job = self._farm.producer.submit(images, model=self._farm.model, params=recipe.params())
            self._farm.done(job, patience=3600)
            for result in self._farm.producer.results(job, wait=False):
                key = (recipe, images[result.input])
                self._known[key] = result.reason or pixels(result.read())

    def outcome(self, recipe: Recipe, image: bytes) -> Outcome:
        """The outcome of an image of `render`."""
        return self._known[recipe, image]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._farm.close()
