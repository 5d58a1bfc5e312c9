"""What is on its way can be seen from outside, through real processes."""

import io

from PIL import Image

from tests.eventually import eventually
from tests.faults.farm import FaultyFarm


def test_an_image_is_seen_while_a_worker_renders_it(farm: FaultyFarm) -> None:
    job = farm.submit(40, steps=60, sampler_name="Heun", denoising_strength=1)
    farm.worker(environment={"IMG2IMG_PREVIEW_SECONDS": "0.05"})

    def seen() -> bytes | None:
        previews = (farm.producer.preview(job, index) for index in range(40))
        return next((preview for preview in previews if preview is not None), None)

    with Image.open(io.BytesIO(eventually("a preview is there", seen))) as image:
        assert (image.format, image.size) == ("JPEG", (8, 8))
    assert farm.status(job).finished is None
    farm.producer.cancel(job)


def test_a_worker_that_is_told_so_makes_none(farm: FaultyFarm) -> None:
    farm.worker(environment={"IMG2IMG_PREVIEW_SECONDS": "0"})
    job = farm.submit(3, steps=20)
    while farm.status(job).finished is None:
        assert all(farm.producer.preview(job, index) is None for index in range(3))
    farm.done(job)
