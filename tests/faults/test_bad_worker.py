"""One worker that cannot do what the others can: it fails no image, says what is wrong, and comes back."""

import errno
import shutil
from pathlib import Path

from img2img_worker.farm.broken import BROKEN
from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm, Worker, picture


def trouble(farm: FaultyFarm) -> str | None:
    """Of whichever worker has some."""
    return next((each.report.trouble for each in farm.producer.workers() if each.report.trouble), None)


def all_serve(farm: FaultyFarm, count: int) -> None:
    """Workers serve, as many as there are."""
    eventually("all serve", lambda: len(farm.producer.workers()) == count)


def returns(farm: FaultyFarm, bad: Worker) -> None:
    """The worker claims again, and what it claims is rendered."""
    eventually("it claims again", lambda: "claims again" in bad.log.read_text())
    for other in farm.workers:
        if other is not bad:
            other.signal("TERM")
            assert other.exit_status == 0
    farm.done(farm.submit(2))


def test_an_unmounted_share_costs_no_image(farm: FaultyFarm, account: Account) -> None:
    share = farm.folder / "share"
    share.mkdir()
    job = farm.submit_many(200, steps=1)
    bad = farm.worker(environment={"IMG2IMG_STORE_URL": str(share)})
    for _ in range(2):
        farm.worker()
    all_serve(farm, 3)
    account.fault()
    assert "not this farm's" in eventually("it says what is wrong", lambda: trouble(farm))
    farm.done(job)
    assert not (share / "jobs").exists()
    account.settle(farm, "1 of 3 workers without its share, 200 images", job)
    shutil.rmtree(share)
    share.symlink_to(farm.store_url)
    returns(farm, bad)


def test_a_share_that_goes_away_takes_no_picture_with_it(farm: FaultyFarm, account: Account) -> None:
    share = farm.folder / "share"
    share.symlink_to(farm.store_url)
    bad = farm.worker(environment={"IMG2IMG_STORE_URL": str(share)})
    farm.worker()
    all_serve(farm, 2)
    job = farm.submit_many(40, steps=4)
    eventually("it renders", lambda: farm.status(job).done > 4)
    account.fault()
    share.unlink()
    share.mkdir()
    account.settle(farm, "a share unmounted while two workers render", job)
    shutil.rmtree(share)
    share.symlink_to(farm.store_url)
    returns(farm, bad)


def test_a_worker_that_cannot_write_costs_no_image(farm: FaultyFarm, account: Account) -> None:
    fault = farm.folder / "fault"
    bad = farm.worker(failing_store={"number": errno.EROFS, "marker": str(fault)})
    farm.worker()
    all_serve(farm, 2)
    job = farm.submit_many(40, steps=2)
    eventually("both render", lambda: farm.status(job).done > 4)
    account.fault()
    fault.touch()
    eventually("it says what is wrong", lambda: trouble(farm))
    account.settle(farm, "a read-only store at 1 of 2 workers", job)
    fault.unlink()
    returns(farm, bad)


def test_a_worker_whose_libraries_fail_costs_no_image(farm: FaultyFarm, account: Account) -> None:
    fault = farm.folder / "fault"
    fault.touch()
    bad = farm.worker(broken_library={"marker": str(fault)})
    farm.worker()
    all_serve(farm, 2)
    account.fault()
    job = farm.submit_many(40, steps=2)
    assert "no attribute" in eventually("it says what is wrong", lambda: trouble(farm))
    account.settle(farm, "an error that nobody foresaw, at 1 of 2 workers", job)
    fault.unlink()
    returns(farm, bad)


def test_an_image_that_no_worker_can_do_fails_when_the_second_says_so(
    farm: FaultyFarm, account: Account
) -> None:
    for _ in range(2):
        farm.worker(broken_size={"size": 72})
    all_serve(farm, 2)
    account.fault()
    inputs = [picture(number, size=72 if number == 2 else 64) for number in range(6)]
    job = farm.producer.submit(inputs, model=farm.model, steps=2, width=64, height=64)
    account.settle(farm, "an error that nobody foresaw, at one image", job, failed=1)
    assert farm.attempts(job)[2] == 2
    assert farm.reasons(job)[2] == "ArithmeticError: a picture of 72"


def test_a_store_that_is_full_for_all_is_waited_for(farm: FaultyFarm, account: Account) -> None:
    fault = farm.folder / "fault"
    for _ in range(2):
        farm.worker(failing_store={"number": errno.ENOSPC, "marker": str(fault)})
    all_serve(farm, 2)
    job = farm.submit_many(20, steps=2)
    eventually("they render", lambda: farm.status(job).done > 2)
    fault.touch()
    waits_for = eventually("the job says what it waits for", lambda: farm.status(job).waits_for)
    assert "No space left on device" in waits_for
    account.fault()
    fault.unlink()
    account.settle(farm, "the disk full for all, then not", job)


def test_a_stale_copy_of_the_store_costs_no_image(farm: FaultyFarm, account: Account) -> None:
    """It has the farm's marker, so that nothing seems wrong with it but what is missing."""
    farm.producer.cancel(farm.submit(1))
    copy = Path(shutil.copytree(farm.store_url, farm.folder / "copy"))
    bad = farm.worker(environment={"IMG2IMG_STORE_URL": str(copy)})
    farm.worker()
    all_serve(farm, 2)
    account.fault()
    job = farm.submit_many(40, steps=2)
    account.settle(farm, "a stale copy of the store at 1 of 2 workers", job)
    eventually("it is not trusted any more", lambda: "others have done 3 images" in bad.log.read_text())


def test_a_share_that_hangs_costs_no_image(farm: FaultyFarm, account: Account) -> None:
    marker = farm.folder / "hangs"
    bad = farm.worker(hanging_store={"marker": str(marker)})
    farm.worker()
    all_serve(farm, 2)
    job = farm.submit_many(40, steps=2)
    account.fault()
    eventually("it hangs", marker.exists)
    assert "has not answered for" in eventually("it says so", lambda: trouble(farm))
    account.settle(farm, "a store that hangs at 1 of 2 workers", job)
    assert bad.alive


def test_a_device_that_breaks_among_good_ones_costs_no_image(farm: FaultyFarm, account: Account) -> None:
    marker = farm.folder / "breaks"
    bad = farm.worker(breaking_device={"after": 12, "marker": str(marker)})
    farm.worker()
    all_serve(farm, 2)
    job = farm.submit_many(60)
    eventually("it breaks", marker.exists)
    account.fault()
    account.settle(farm, "a device that breaks at 1 of 2 workers", job)
    assert bad.exit_status == BROKEN


def test_a_worker_whose_device_is_broken_claims_nothing(farm: FaultyFarm, account: Account) -> None:
    bad = farm.worker(broken_device={"width": 64})
    farm.worker()
    account.fault()
    job = farm.submit(6)
    account.settle(farm, "a device that is broken from the start, at 1 of 2 workers", job)
    assert bad.exit_status == BROKEN
    assert farm.attempts(job) == [1] * 6
