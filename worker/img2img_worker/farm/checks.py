"""The checks of a worker's health: it writes to the farm's store, and renders a picture from start to end."""

import io
from collections.abc import Callable
from contextlib import suppress

import torch
from PIL import Image

from img2img_shared.errors import FarmError, Unavailable
from img2img_shared.farm.marker import StoreMarker
from img2img_shared.job import Input, Job
from img2img_shared.params import Params
from img2img_shared.store import Store
from img2img_worker.farm.broken import end_broken
from img2img_worker.farm.current_model import CurrentModel
from img2img_worker.farm.recipe import recipe

#: bytes that are written, at least, to see whether that works
LEAST = 64 * 1024
#: pixels of the sample, each way: every family takes it, and it is soon done
SIDE = 64


class StoreCheck:
    """Checks that the store is the farm's, and can be written and read."""

    def __init__(self, store: Store, marker: StoreMarker, worker: str) -> None:
        self._store = store
        self._marker = marker
        self._key = f"checks/{worker}"
        self._size = LEAST

    def needs(self, size: int) -> None:
        """Note the size of a failed write: a disk that is nearly full still accepts smaller ones."""
        self._size = max(self._size, size)

    def __call__(self) -> None:
        """Raises `StoreError`."""
        with suppress(Unavailable):  # without Redis it is not known whose the store is, but whether it works
            self._marker.check()
        self._store.try_out(self._key, self._size)


def sample_render(current: CurrentModel) -> Callable[[], None]:
    """A function that renders a picture of the worker's own in one step; what that raises is raised by it.

    Except a `FarmError`: a checkpoint that overflows, or takes no such picture, is not the worker's fault.
    """
    data = io.BytesIO()
    Image.radial_gradient("L").resize((SIDE, SIDE)).convert("RGB").save(data, "PNG")
    pictures = {"image": data.getvalue()}
    params = Params(steps=1, cfg_scale=1, denoising_strength=1, width=SIDE, height=SIDE, seed=1, subseed=1)

    def look() -> None:
        if (model := current.loaded) is None:
            raise Unavailable("another model is being loaded")
        engine, served = model.engine, model.served
        job = Job(id="sample-render", model=served.model, params=params, n_inputs=1)
        steps = recipe(job, Input(), 0, pictures, served)
        try:
            renders = next(steps)
            while True:
                renders = steps.send([engine.submit(render).result() for render in renders])
        except StopIteration:
            return
        except Exception as error:
            if isinstance(error, torch.AcceleratorError) or engine.broken:
                end_broken(error)
            if isinstance(error, Unavailable) or not isinstance(error, FarmError):
                raise

    return look
