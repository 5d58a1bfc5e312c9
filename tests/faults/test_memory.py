"""Workers that run short of memory, on the device and on the host."""

import io
import re
import resource

from PIL import Image

from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm, memory_of, picture

#: several images share a model call, as on a GPU
BATCHED = {"IMG2IMG_DETERMINISTIC": "false"}


def test_a_device_short_of_memory_gets_smaller_batches(farm: FaultyFarm, account: Account) -> None:
    job = farm.submit(10, steps=8)
    account.fault()
    # 8 images are 16 rows; 4 rows fit
    worker = farm.worker(slots=8, environment=BATCHED, small_device={"rows": 4})
    account.settle(farm, "out of memory on the device", job)
    # the engine put them back, within the worker: no image lost its attempt
    assert farm.attempts(job) == [1] * 10
    assert re.search("out of memory: [1-4] slots for now", worker.log.read_text())


def test_an_image_too_large_for_one_worker_is_rendered_by_another_or_fails_with_the_reason(
    farm: FaultyFarm, account: Account
) -> None:
    small = farm.worker(environment=BATCHED, small_device={"rows": 1})
    fits = farm.submit(4, cfg_scale=1)  # one row each
    too_large = farm.submit(3)
    account.fault()
    account.settle(farm, "too large for the device, even alone", too_large, failed=3)
    account.settle(farm, "... its neighbours", fits)
    assert set(farm.attempts(too_large)) == {5}
    for reason in farm.reasons(too_large).values():
        assert reason.startswith("5 tries; the last: out of memory: 64 × 64 is too large for cpu, even alone")
    farm.producer.retry(too_large)
    eventually("the small one tries again", lambda: max(farm.attempts(too_large)) > 5)
    farm.worker(environment=BATCHED)
    account.fault()
    account.settle(farm, "... retried, with a larger worker beside it", too_large)
    assert small.alive


def test_a_host_short_of_memory_puts_the_image_back_and_goes_on(farm: FaultyFarm, account: Account) -> None:
    inputs = [picture(number, size=72 if number % 3 == 0 else 64) for number in range(9)]
    starved = farm.worker(starve={"size": 72})
    job = farm.producer.submit(inputs, model=farm.model, steps=2, width=64, height=64)
    eventually("one was put back", lambda: max(farm.attempts(job)) > 1)
    account.fault()
    take_over(farm, job)
    account.settle(farm, "MemoryError for some images, on one of two workers", job)
    assert starved.alive


def test_a_worker_that_may_have_no_more_memory_costs_no_image(farm: FaultyFarm, account: Account) -> None:
    squeezed = farm.worker()
    eventually("it serves", lambda: farm.producer.workers())
    first = farm.submit(2)
    farm.done(first)
    limit = memory_of(squeezed.pid, "VmSize") + 8 * 1024 * 1024
    resource.prlimit(squeezed.pid, resource.RLIMIT_AS, (limit, limit))
    account.fault()
    job = farm.producer.submit(
        [large(number) for number in range(4)], model=farm.model, steps=2, width=64, height=64
    )
    eventually("it fails at one", lambda: max(farm.attempts(job)) > 1 or not squeezed.alive)
    take_over(farm, job)
    account.settle(farm, "a worker that may have 8 MB more (RLIMIT_AS)", job)


def take_over(farm: FaultyFarm, job: str) -> None:
    """A second worker comes, before the first has tried an image too often."""
    farm.producer.pause(job)
    farm.worker()
    eventually("it serves", lambda: len(farm.producer.workers()) == 2 or not farm.workers[0].alive)
    farm.producer.resume(job)


def large(number: int) -> bytes:
    """A PNG of a few KB that decodes to 48 MB."""
    data = io.BytesIO()
    Image.new("RGB", (4000, 4000), (number, 0, 0)).save(data, "PNG")
    return data.getvalue()
