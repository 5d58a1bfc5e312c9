"""The ComfyUI node on a gateway, outside of ComfyUI, beside a worker's part that paints one colour."""

import threading
from collections.abc import Iterator

import pytest
import torch

from img2img_producer import Farm
from img2img_shared.errors import Refused
from img2img_shared.job import JobState
from integrations.comfyui import NODE_CLASS_MAPPINGS
from tests.integration.gateway import FakeWorker, Gateway

NODE = NODE_CLASS_MAPPINGS["Img2ImgFarm"]
#: as ComfyUI hands over what its user left alone
DEFAULTS = {
    name: options[1]["default"]
    for name, options in NODE.INPUT_TYPES()["required"].items()  # type: ignore[attr-defined]
    if len(options) > 1
} | {"model": "m", "steps": 2}


@pytest.fixture
def busy_worker(fake_worker: FakeWorker) -> Iterator[FakeWorker]:
    """A worker that works until the test has ended."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            fake_worker.work()
            stop.wait(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    yield fake_worker
    stop.set()
    thread.join()


def test_a_batch_comes_back_in_order(gateway: Gateway, busy_worker: FakeWorker) -> None:
    image, mask = torch.rand(3, 64, 128, 3), torch.ones(64, 128)
    given = {**DEFAULTS, "url": gateway.url, "seed": 40, "parameters": "mask_blur = 8\n\ninpainting_fill=2"}
    (painted,) = NODE().repaint(image=image, mask=mask, **given)
    assert painted.shape == (3, 64, 128, 3)
    assert painted.dtype == torch.float32
    assert 0 <= painted.min() <= painted.max() <= 1
    assert sorted(busy_worker.seeds) == [40, 41, 42]
    with Farm(gateway.url) as farm:
        (status,) = farm.jobs()
        params = farm.job(status.id).params
    assert (status.name, status.state) == ("ComfyUI", JobState.DONE)
    assert (params.width, params.height, params.mask_blur_x, params.inpainting_fill) == (128, 64, 8, 2)


def test_a_picture_of_any_size_is_taken(gateway: Gateway, busy_worker: FakeWorker) -> None:
    NODE().repaint(image=torch.rand(1, 113, 151, 3), **{**DEFAULTS, "url": gateway.url})
    with Farm(gateway.url) as farm:
        (status,) = farm.jobs()
        params = farm.job(status.id).params
    assert status.state is JobState.DONE
    assert (params.width, params.height, params.odd_size) == (151, 113, True)


def test_what_the_farm_refuses_is_said(gateway: Gateway) -> None:
    given = {**DEFAULTS, "url": gateway.url, "parameters": "stepz = 1"}
    with pytest.raises(Refused, match=r"stepz is '1'.*steps"):
        NODE().repaint(image=torch.rand(1, 64, 64, 3), **given)


def test_an_interrupt_cancels_the_job(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise InterruptedError

    monkeypatch.setattr("integrations.comfyui.nodes._progress", lambda _: interrupted)
    with pytest.raises(InterruptedError):
        NODE().repaint(image=torch.rand(1, 64, 64, 3), **{**DEFAULTS, "url": gateway.url})
    with Farm(gateway.url) as farm:
        assert [each.state for each in farm.jobs()] == [JobState.CANCELLED]
