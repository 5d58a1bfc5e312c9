"""The answer of a synchronous render: pictures, the request, and A1111's account of what was done."""

import base64
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from img2img_gateway.async_farm import AsyncFarm
from img2img_gateway.gateway_errors import Problem
from img2img_gateway.sdapi.option_table import SENDS_TEXTS
from img2img_gateway.sdapi.processed import processed
from img2img_gateway.sdapi.request import Img2ImgRequest, RenderRequest
from img2img_gateway.sdapi.request_reading import Reading
from img2img_gateway.sdapi.tasks import Task
from img2img_shared.control import MOST_PICTURES
from img2img_shared.errors import FarmError, is_refusal
from img2img_shared.job import ImageState, Job, loop_name, result_key
from img2img_shared.ledger import IMAGES, Ledger
from img2img_shared.param_fields import COMPOSED
from img2img_shared.picture_texts import read_texts, without_texts
from img2img_shared.sheets.grid import MOST_PIXELS, GridOptions, grid, larger, png

#: what a masked image may have beside its picture, by the parameter that asks for it
_BESIDE = {"return_mask": "mask", "return_mask_composite": "mask-composite"}


class Answer:
    """The answer of one task that has ended; holds one picture in memory at a time. Its methods block."""

    def __init__(self, farm: AsyncFarm, tenant: str, task: Task, reading: Reading) -> None:
        self._ledger = farm.ledger
        self._store = farm.store
        self._tenant = tenant
        self._task = task
        self._reading = reading
        #: of each render
        self._jobs: list[list[Job]] = []
        #: store keys of all that is sent, in order
        self._sent: list[str] = []
        #: and of those, of pictures and their masks
        self._keys: list[str] = []
        self._texts: list[str] = []
        #: width and height of the largest picture
        self._cell = (0, 0)

    def read(self) -> None:
        """Look up the images. Those that were not begun are left out; if none was begun, the answer is empty.

        Raises:
            Problem: an image failed, with its reason; 422, if it is the request's fault.
            StoreError: one cannot be read.
        """
        jobs = iter(self._task.jobs)
        for render in self._reading.renders:
            ids = islice(jobs, render.body.n_iter)
            self._jobs.append([self._ledger.job(job_id, self._tenant) for job_id in ids])
            self._read_render(self._jobs[-1])
        if self._reading.run is not None:
            self._texts = self._reading.run.texts(self._texts)

    def _read_render(self, jobs: Sequence[Job]) -> None:
        """Look up the images of one render: its pictures, then its control pictures."""
        maps: list[str] = []
        for job in jobs:
            for index in done_images(self._ledger, job, self._tenant):
                keys = list(self._keys_of(job, index))
                picture = self._store.get(keys[0])  # of a loop, A1111 tells the first one's text
                self._texts.append(read_texts(picture).get("parameters", ""))
                if self._reading.run is not None and not self._reading.run.shows_loops:
                    del keys[: job.params.loopback_loops - 1]
                self._keys += keys
                self._sent += keys
                self._cell = larger(self._cell, picture)
                # one picture for all of a render's images
                maps = maps or list(self._map_keys(job, index))
        self._sent += maps

    def parts(self) -> Iterator[bytes]:
        """The answer's JSON, piece by piece.

        Raises:
            StoreError: a picture can no longer be read.
        """
        sheets = self._sheets()
        yield b'{"images": ['
        if self._reading.body.send_images:
            comma = b""
            has_texts = self._reading.options.get(SENDS_TEXTS, True)
            for picture in self._pictures(sheets):
                sent = picture if has_texts else without_texts(picture)
                yield comma + b'"' + base64.b64encode(sent) + b'"'
                comma = b", "
        yield b'], "parameters": ' + json.dumps(_parameters(self._reading.body)).encode()
        yield b', "info": ' + json.dumps(json.dumps(self._info(len(sheets)))).encode() + b"}"

    def remove(self) -> None:
        """Remove the pictures; the jobs stay in the ledger for their time."""
        for job_id in self._task.jobs:
            with suppress(FarmError):
                job = self._ledger.job(job_id, self._tenant)
                for index in range(job.n):
                    for key in (*self._keys_of(job, index), *self._map_keys(job, index)):
                        self._store.delete(key)

    def _keys_of(self, job: Job, index: int) -> Iterator[str]:
        """The keys of an image's earlier results, its picture, and what is stored beside it."""
        if job.params.loopback_return_all:
            for number in range(job.params.loopback_loops - 1):
                yield result_key(job.id, index, job.params.output_format, loop_name(number))
        yield result_key(job.id, index, job.params.output_format)
        for parameter, name in _BESIDE.items():
            if getattr(job.params, parameter):
                key = result_key(job.id, index, job.params.output_format, name)
                if self._store.exists(key):  # none of an image without a mask
                    yield key

    def _map_keys(self, job: Job, index: int) -> Iterator[str]:
        """The keys of an image's control pictures; with a hires fix, of both passes."""
        if any(getattr(job.params, name) for name in COMPOSED):
            return
        wanted = [unit for unit in job.params.control if unit.save_detected_map]
        most = len(wanted) * (1 + job.params.enable_hr)
        sees_any_number = any(unit.preprocessor.is_image_prompt for unit in wanted)
        for number in range(len(wanted) * MOST_PICTURES if sees_any_number else most):
            key = result_key(job.id, index, job.params.output_format, f"control-{number}")
            if sees_any_number and not self._store.exists(key):
                return
            yield key

    def _pictures(self, sheets: Sequence[bytes]) -> Iterator[bytes]:
        yield from sheets
        run = self._reading.run
        if run is None or run.sends_pictures or not sheets:
            yield from map(self._store.get, self._sent)

    def _sheets(self) -> list[bytes]:
        """The script's sheets, which A1111 puts before the pictures."""
        run = self._reading.run
        if run is None:
            return list(self._grid()) if self._reading.body.save_images else []
        if run.sheets is None or len(self._keys) < run.count:  # which interrupted ones have not
            return []
        options = GridOptions.model_validate(dict(self._reading.options_of_sheets))
        if not run.sheets.is_wanted(options):
            return []
        if not self._has_room("the script's sheet", run.sheets.size(self._cell, options)):
            return []
        drawn = run.sheets.drawn(map(self._store.get, self._keys), self._cell, options)
        return [png(sheet) for sheet in drawn]

    def _has_room(self, name: str, size: tuple[int, int]) -> bool:
        pixels = math.prod(size)
        if pixels > MOST_PIXELS:
            self._reading.warnings.append(f"{name}: there is none, for it would have {pixels} pixels")
        return pixels <= MOST_PIXELS

    def _grid(self) -> Iterator[bytes]:
        """The grid of the pictures, if there is to be one."""
        options = GridOptions.model_validate(dict(self._reading.options))
        count = len(self._keys)
        if not options.wants_grid(count):
            return
        size = options.size(count, self._reading.body.batch_size)
        if not self._has_room("return_grid", (size[0] * self._cell[0], size[1] * self._cell[1])):
            return
        pictures = map(self._store.get, self._keys)
        yield grid(pictures, size, self._cell, options.grid_background_color, self._texts[0])

    def _info(self, sheets: int) -> dict[str, Any]:
        texts = self._texts
        if sheets:
            run = self._reading.run  # the grid's is the first one's
            texts = [*(run.sheets.texts(texts) if run and run.sheets else texts[:1]), *texts]
        info = processed(self._reading, self._jobs, texts, self._task.begun, self._cell)
        return {"index_of_first_image": int(sheets > 0), **info}


def done_images(ledger: Ledger, job: Job, tenant: str) -> Iterator[int]:
    """Indexes of a job's images that are done.

    Raises:
        Problem: one failed, with its reason; 422, if it is the request's fault.
    """
    for start in range(0, job.n, IMAGES):
        for image in ledger.images(job.id, tenant, start, IMAGES):
            if image.state is ImageState.FAILED:
                status = 422 if is_refusal(image.reason or "") else 500
                raise Problem(status, f"image {image.index} failed: {image.reason}")
            if image.state is ImageState.DONE:
                yield image.index


def _parameters(body: RenderRequest) -> dict[str, Any]:
    """The request as A1111 returns it: its own fields, and the pictures only if asked for."""
    hidden = {"distilled_cfg_scale", *body.unknown} - ({"distilled_cfg_scale"} & body.model_fields_set)
    parameters = body.model_dump(exclude=hidden) | dict.fromkeys(body.nulls)
    if isinstance(body, Img2ImgRequest) and not body.include_init_images:
        parameters |= {"init_images": None, "mask": None}
    return parameters
