"""The pictures that A1111 itself gave, and their texts: a request through the gateway's reading, a worker's
recipe and its engine."""

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import Img2ImgRequest
from img2img_gateway.sdapi.scripts.always_on import script_parameters
from img2img_gateway.sdapi.translate import read_request
from img2img_shared.farm.submission import draw_seeds
from img2img_shared.job import Input, Job
from img2img_shared.picture_texts import read_texts
from img2img_shared.roles import Role
from img2img_worker.engine.engine import Engine
from img2img_worker.farm.recipe import Files, recipe
from img2img_worker.farm.served import Served
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.pictures.decode import Decoder
from tests import checkpoints
from tests.acceptance.a1111_references import CASES, MODEL, expected, request
from tests.unit.test_recipe import SERVED

#: of 255, on average over a picture
WITHIN = 0.05
#: what a text tells of the program and of the file
_OWN = re.compile(r", (Model hash|Version): [^,\n]*")


@dataclass(frozen=True)
class Worker:
    """What of a worker renders."""

    engine: Engine
    served: Served


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    family = open_checkpoint(checkpoints.cached(tmp_path_factory, checkpoints.sd1_published))
    served = replace(
        SERVED,
        title=MODEL,
        decoder=Decoder(1_000_000),
        levels=family.levels,
        context_length=family.context_length,
    )
    with Engine(family) as engine:
        yield Worker(engine, served)


@pytest.mark.parametrize("name", CASES)
def test_a_picture_and_its_text_are_a1111s(name: str, worker: Worker) -> None:
    data = rendered(request(name), worker)
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert picture.shape == expected(name).shape
    assert np.abs(picture - expected(name)).mean() <= WITHIN
    assert _OWN.sub("", read_texts(data)["parameters"]) == _OWN.sub("", CASES[name]["infotext"])


def rendered(body: dict[str, Any], worker: Worker) -> bytes:
    """The first picture's file."""
    sent = Img2ImgRequest.model_validate(body)
    prompts = sent.prompt, sent.negative_prompt
    scripts = script_parameters(sent, Leniency(strict=True))
    params = draw_seeds(read_request(sent, prompts, sent.override_settings or {}, scripts))
    pictures: dict[Role, bytes] = {"image": base64.b64decode(body["init_images"][0])}
    if "mask" in body:
        pictures["mask"] = base64.b64decode(body["mask"])
    job = Job(id="0" * 16, model=MODEL, params=params, n_inputs=1)
    steps = recipe(job, Input(), 0, pictures, worker.served)
    try:
        renders = next(steps)
        while True:
            futures = [worker.engine.submit(render) for render in renders]
            renders = steps.send([future.result(300) for future in futures])
    except StopIteration as end:
        files: Files = end.value
        return [*files.values()][-1]
