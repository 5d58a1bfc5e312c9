"""Hostile pictures, through the whole farm."""

from img2img_shared.errors import is_refusal
from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm
from tests.faults.malicious_input import corpus, png

MAX_PIXELS = 4_000_000
#: bytes that a worker may need beyond what it needs for small pictures: a few pictures of the most pixels
#: allowed, in a few forms each (4 bytes a pixel), and the largest of the files themselves
LIMIT = 250 * 1024 * 1024


def test_each_hostile_picture_is_refused_in_a_clear_line_or_rendered_and_memory_stays_bounded(
    farm: FaultyFarm, account: Account
) -> None:
    worker = farm.worker(environment={"IMG2IMG_MAX_PIXELS": str(MAX_PIXELS)})
    small = farm.submit(4, steps=1)
    farm.done(small)
    before = worker.most_resident

    samples = corpus()
    inputs = [
        {"image": sample.data, "name": sample.name}
        if sample.mask_of is None
        else {"image": png(*sample.mask_of), "mask": sample.data, "name": sample.name}
        for sample in samples
    ]
    account.fault()
    job = farm.producer.submit(
        inputs, model=farm.model, steps=1, denoising_strength=0.5, width=64, height=64, mask_blur=0
    )
    farm.done(job)
    seconds = account.since()
    images = farm.images(job)
    rendered = {sample.name for sample, image in zip(samples, images, strict=True) if image.reason is None}
    for sample, image in zip(samples, images, strict=True):
        if sample.becomes != "either":
            assert (sample.name in rendered) == (sample.becomes == "rendered"), (sample.name, image.reason)
        if image.reason is not None:
            field = "image" if sample.mask_of is None else "mask"
            assert image.reason.startswith(f"{field} is "), image.reason
            assert is_refusal(image.reason)
            assert image.reason.isprintable()
            assert len(image.reason) < 400

    refused = len(samples) - len(rendered)
    name = f"{len(samples)} hostile pictures and masks, {refused} refused"
    account.settle(farm, name, job, small, failed=refused, seconds=seconds)
    assert farm.attempts(job) == [1] * len(samples)
    assert worker.alive
    assert worker.most_resident < before + LIMIT
    log = worker.log.read_text()
    assert "Traceback" not in log
    assert "\x1b" not in log
