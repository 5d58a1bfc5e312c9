"""The client on a real Redis and a real store; the test is the worker, by way of the ledger."""

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis as redis_module

from img2img_producer import Farm, Picture
from img2img_shared.errors import Conflict, NotFound, Refused, StoreError, Unavailable
from img2img_shared.farm.originals import read_originals
from img2img_shared.job import PAGE, ImageState, JobState, inputs_key, result_key
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.connect import connect
from img2img_shared.ledger.keys import queue_key
from img2img_shared.ledger.previews import Previews
from img2img_shared.params import Params
from img2img_shared.records import Claim, WorkerInfo
from img2img_shared.store import Store
from img2img_shared.wire import decode_inputs
from tests.servers import raw_client


class Worker:
    """Takes images and ends them as told, without rendering."""

    def __init__(self, farm: Farm) -> None:
        self.store = Store(farm.store_url)
        self.client = connect(farm.redis_url)
        self.ledger = Ledger(self.client)

    def claim(self, model: str = "m") -> Claim | None:
        return self.ledger.claim(model, "worker", uuid.uuid4().hex, idle=True)

    def finish(self, claim: Claim) -> None:
        job = self.ledger.job(claim.job_id, claim.tenant)
        key = result_key(claim.job_id, claim.index, job.params.output_format)
        self.store.put(key, f"result {claim.index}".encode())
        assert self.ledger.finish(claim)

    def work(self, judge: Callable[[Claim], str | None] = lambda _: None) -> int:
        """All that there is; an image fails for the reason that `judge` gives. How many it ended."""
        count = 0
        while claim := self.claim():
            count += 1
            if reason := judge(claim):
                assert self.ledger.fail(claim, reason)
            else:
                self.finish(claim)
        return count


@pytest.fixture(params=["folder", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder, and a real S3 server."""
    return str(request.getfixturevalue("s3_url")) if request.param == "s3" else str(tmp_path / "store")


@pytest.fixture
def farm(redis_url: str, store_url: str) -> Iterator[Farm]:
    """An empty farm without workers."""
    with Farm(redis_url, store_url) as farm:
        yield farm


@pytest.fixture
def folder_farm(redis_url: str, tmp_path: Path) -> Iterator[Farm]:
    """An empty farm on a folder."""
    with Farm(redis_url, tmp_path / "store") as farm:
        yield farm


@pytest.fixture
def worker(farm: Farm) -> Iterator[Worker]:
    worker = Worker(farm)
    yield worker
    worker.client.close()


@pytest.fixture
def folder_worker(folder_farm: Farm) -> Iterator[Worker]:
    worker = Worker(folder_farm)
    yield worker
    worker.client.close()


def test_a_job_comes_back_as_one_result_for_each_image(farm: Farm, worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"cat")
    inputs: list[Any] = [tmp_path / "cat.png", b"dog", {"image": b"cow", "name": "cow"}]
    job = farm.submit(inputs, model="m", images_per_input=2, output_format="jpeg")
    assert worker.work(lambda claim: "too fluffy" if claim.index == 2 else None) == 6
    results = {result.index: result for result in farm.results(job)}
    assert [results[i].name for i in range(6)] == [
        *("cat.jpg", "cat-2.jpg", "00001.jpg", "00001-2.jpg", "cow.jpg", "cow-2.jpg"),
    ]
    assert [results[i].input for i in range(6)] == [0, 0, 1, 1, 2, 2]
    assert results[2].reason == "too fluffy"
    with pytest.raises(StoreError, match=r"00001\.jpg failed: too fluffy"):
        results[2].read()
    assert results[3].read() == b"result 3"
    assert results[5].save(tmp_path / "out").read_bytes() == b"result 5"
    assert [image.state for image in farm.images(job)].count(ImageState.DONE) == 5


def test_what_the_workers_find_is_what_was_submitted(farm: Farm, worker: Worker) -> None:
    picture = Picture(image=b"cat", mask=b"own", prompt="tiger", negative_prompt="dog", seed=5, name="c")
    job = farm.job(
        farm.submit(
            [picture, (b"cow", b"cowmask"), b"cat"], model="m", mask=b"all", priority=7, prompt="x", steps=3
        )
    )
    assert (job.model, job.n_inputs, job.priority, job.tenant) == ("m", 3, 7, "default")
    assert (job.params.prompt, job.params.steps) == ("x", 3)
    assert worker.store.get(job.pictures["mask"]) == b"all"
    first, second, third = decode_inputs(worker.store.get(inputs_key(job.id, 0)))
    assert first.params == {"prompt": "tiger", "negative_prompt": "dog", "seed": 5}
    assert (first.name, second.params) == ("c", {})
    found = [{role: worker.store.get(key) for role, key in item.pictures.items()} for item in (first, second)]
    assert found == [{"image": b"cat", "mask": b"own"}, {"image": b"cow", "mask": b"cowmask"}]
    assert third.pictures == {"image": first.pictures["image"]}


def test_parameters_and_pictures_of_one_input_reach_the_workers(farm: Farm, worker: Worker) -> None:
    own: dict[str, Any] = {"steps": "9", "sampler_name": "DPM++ 2M Karras", "mask_blur": 2, "seed": -1}
    inputs: list[Any] = [
        Picture(image=b"cat", folder="day/1", **own),
        {"prompt": "a dog", "txt2img": True},
        b"cow",
    ]
    job = farm.job(
        farm.submit(inputs, pictures={"mask": b"m"}, steps=3, seed=4, subseed=5, scheduler="SGM Uniform")
    )
    first, second, third = decode_inputs(worker.store.get(inputs_key(job.id, 0)))
    assert job.pictures.keys() == {"mask"}
    drawn = first.params.pop("seed")
    assert drawn >= 0
    assert first.params == {
        "steps": 9,
        "sampler_name": "DPM++ 2M",
        "scheduler": "Karras",
        "mask_blur_x": 2.0,
        "mask_blur_y": 2.0,
    }
    assert (first.folder, third.params) == ("day/1", {})
    assert (second.params, second.pictures) == ({"prompt": "a dog", "txt2img": True}, {})
    assert list(read_originals(worker.store, job).names) == [
        "day/1/00000.png",
        "00001.png",
        "00002.png",
    ]


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"image": b"x", "x": 1}, "x"),
        ({"image": b"x", "steps": 0}, "steps"),
        ({"image": b"x", "cfg_scale": float("nan")}, "cfg_scale"),
        ({"image": b"x", "images_per_input": 2}, "images_per_input"),
        ({"image": b"x", "output_format": "jpeg"}, "output_format"),
        ({"image": b"x", "quality": 50}, "quality"),
        ({"image": b"x", "s_churn": 1}, "s_churn"),
        ({"image": b"x", "folder": "/etc"}, "folder"),
        ({"image": b"x", "folder": "a/../.."}, "folder"),
        ({"image": b"x", "control/0": b"x"}, "control/0"),
        ({"image": b"x", "control/99": b"x"}, "pictures"),
        ({"mask": b"x"}, "image"),
    ],
)
def test_what_is_wrong_with_an_input_is_refused_with_its_place_before_it_is_stored(
    farm: Farm, worker: Worker, item: dict[str, Any], field: str
) -> None:
    with pytest.raises(Refused, match=rf"^inputs\[1\]\.{field} is "):
        farm.submit([b"ok", item], sampler_name="Euler a")
    assert farm.jobs() == []


def test_a_request_whose_inputs_draw_seeds_may_be_repeated(farm: Farm) -> None:
    def submit(seed: int) -> str:
        return farm.submit([{"image": b"x", "seed": seed}], idempotency_key="k", model="m")

    assert submit(-1) == submit(-1)
    with pytest.raises(Conflict, match="differs in: inputs"):
        submit(5)


def test_seeds_are_drawn_once_and_recorded(folder_farm: Farm) -> None:
    jobs = [folder_farm.job(folder_farm.submit(b"x", model="m")) for _ in range(2)]
    assert all(0 <= job.params.seed < 2**32 and 0 <= job.params.subseed < 2**32 for job in jobs)
    assert jobs[0].params.seed != jobs[1].params.seed
    assert folder_farm.job(folder_farm.submit(b"x", model="m", seed=42)).params.seed == 42


def test_named_parameters_win_over_the_given_set(folder_farm: Farm) -> None:
    base = {"steps": 9, "mask_blur": 2, "sampler_name": "DPM++ 2M Karras"}
    job = folder_farm.job(folder_farm.submit(b"x", model="m", params=base, mask_blur_x=8, steps=3))
    assert (job.params.steps, job.params.mask_blur_x, job.params.mask_blur_y) == (3, 8, 2)
    assert (job.params.sampler_name, job.params.scheduler) == ("DPM++ 2M", "Karras")
    job = folder_farm.job(folder_farm.submit(b"x", model="m", params=Params(steps=4, width=64), width=128))
    assert (job.params.steps, job.params.width) == (4, 128)


def test_a_submit_leaves_tickets_for_the_workers(folder_farm: Farm) -> None:
    folder_farm._service.ledger.beat(WorkerInfo(id="w", model="m", device="cpu", slots=1))
    folder_farm.submit([b"x", b"y", b"z"], model="m")
    with raw_client(folder_farm.redis_url) as client:
        assert client.llen(queue_key("img2img", "m")) == 3


def test_a_repeat_with_the_same_key_is_the_first_job_and_leaves_nothing(farm: Farm, worker: Worker) -> None:
    first = farm.submit([b"x"], model="m", idempotency_key="order 17")
    assert farm.submit([b"x"], model="m", idempotency_key="order 17") == first
    with pytest.raises(Conflict, match="differs in: inputs"):
        farm.submit([b"x", b"y"], model="m", idempotency_key="order 17")
    assert [job.id for job in farm.jobs()] == [first]
    assert list(worker.store.list("jobs")) == [inputs_key(first, 0)]


def test_many_inputs_are_read_as_they_go_and_paged(folder_farm: Farm, folder_worker: Worker) -> None:
    ahead = 0
    stored = 0

    def pictures() -> Iterator[bytes]:
        nonlocal ahead
        for index in range(2 * PAGE + 5):
            ahead = max(ahead, index - stored)
            yield b"%d" % (index % 7)

    def progress(count: int) -> None:
        nonlocal stored
        stored = count

    job = folder_farm.job(folder_farm.submit(pictures(), model="m", progress=progress))
    assert job.n_inputs == stored == 2 * PAGE + 5
    assert ahead <= 64, "the generator must not be drained before its pictures are stored"
    pages = [decode_inputs(folder_worker.store.get(inputs_key(job.id, page))) for page in range(3)]
    assert [len(page) for page in pages] == [PAGE, PAGE, 5]
    assert pages[2][4].pictures == pages[0][(2 * PAGE + 4) % 7].pictures
    assert len(list(folder_worker.store.list("inputs"))) == 7


@pytest.mark.parametrize(
    ("inputs", "more", "message"),
    [
        ([], {}, "inputs is empty: .*at least one picture"),
        ([b"x", "gone.png"], {}, r"inputs\[1\]\.image is 'gone.png'.*No such file"),
        ([b"x", 5], {}, r"inputs\[1\] is 5"),
        ([{"image": b"x", "seed": 2**64}], {}, r"inputs\[0\]\.seed is 18446744073709551616"),
        ([b"x"], {"mask": "gone.png"}, "mask is 'gone.png'"),
        ([b"x"], {"steps": 0}, "steps is 0: "),
        ([b"x"], {"stepz": 10}, "stepz is 10: unknown parameter; did you mean steps"),
        ([b"x"], {"sampler_name": "Foo"}, "sampler_name is 'Foo'"),
        ([b"x"], {"priority": 500}, "priority is 500: "),
        ([b"x"], {"params": [1]}, "params is "),
    ],
)
def test_a_wrong_request_is_refused_by_name_and_leaves_no_job(
    folder_farm: Farm, inputs: list[object], more: dict[str, object], message: str
) -> None:
    with pytest.raises(Refused, match=message):
        folder_farm.submit(inputs, model="m", **more)  # type: ignore[arg-type]  # wrong on purpose
    assert folder_farm.jobs() == []
    assert list(Store(folder_farm.store_url).list("jobs")) == []


def test_what_is_no_picture_is_the_workers_to_refuse(folder_farm: Farm, tmp_path: Path) -> None:
    """One bad file must not keep the others of its job from being rendered."""
    (tmp_path / "notes.txt").write_text("")
    assert folder_farm.status(folder_farm.submit([tmp_path / "notes.txt", b"x"], model="m")).n == 2


def test_results_come_while_the_job_runs_each_once(folder_farm: Farm, folder_worker: Worker) -> None:
    job = folder_farm.submit([b"%d" % i for i in range(40)], model="m")
    first = folder_worker.claim()
    assert first is not None
    folder_worker.finish(first)
    results = folder_farm.results(job)
    assert next(results).index == first.index
    rest = threading.Thread(target=folder_worker.work)
    second = folder_worker.claim()
    assert second is not None
    folder_worker.finish(second)
    assert next(results).index == second.index
    rest.start()
    assert sorted(result.index for result in results) == list(range(2, 40))
    rest.join()


def test_after_the_last_result_nothing_is_waited_for(
    folder_farm: Farm, folder_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("img2img_producer.results.GATHER", 1e6)
    job = folder_farm.submit([b"1", b"2"], model="m")
    first, second = folder_worker.claim(), folder_worker.claim()
    assert first is not None
    assert second is not None
    folder_worker.finish(first)
    waits = threading.Event()
    results = folder_farm.results(job, progress=lambda _: waits.set())
    next(results)
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, results)
        assert waits.wait(60)
        folder_worker.finish(second)
        assert len(rest.result()) == 1


def test_results_that_the_stream_has_dropped_are_not_missed(
    folder_farm: Farm, folder_worker: Worker, redis: redis_module.Redis
) -> None:
    job = folder_farm.submit([b"%d" % i for i in range(30)], model="m")
    claim = folder_worker.claim()
    assert claim is not None
    folder_worker.finish(claim)
    results = folder_farm.results(job)
    next(results)
    folder_worker.work()
    redis.delete(f"{{img2img}}:job:{job}:events")
    assert len(list(results)) == 29


def test_a_retried_image_comes_again_with_its_new_end(folder_farm: Farm, folder_worker: Worker) -> None:
    job = folder_farm.submit([b"x", b"y"], model="m")
    claim = folder_worker.claim()
    assert claim is not None
    folder_worker.ledger.fail(claim, "by chance")
    results = folder_farm.results(job)
    assert next(results).reason == "by chance"
    assert folder_farm.retry(job) == 1
    threading.Thread(target=folder_worker.work).start()
    assert sorted((result.index, result.reason) for result in results) == [(0, None), (1, None)]


def test_results_without_waiting_are_those_that_are_there(folder_farm: Farm, folder_worker: Worker) -> None:
    job = folder_farm.submit([b"x", b"y"], model="m")
    assert list(folder_farm.results(job, wait=False)) == []
    claim = folder_worker.claim()
    assert claim is not None
    folder_worker.finish(claim)
    assert [result.index for result in folder_farm.results(job, wait=False)] == [claim.index]


def test_a_watch_sees_the_job_change_and_ends_with_it(folder_farm: Farm, folder_worker: Worker) -> None:
    job = folder_farm.submit([b"x", b"y", b"z"], model="m")
    watch = folder_farm.watch(job)
    assert next(watch).state is JobState.PENDING
    claim = folder_worker.claim()
    assert claim is not None
    folder_worker.finish(claim)
    assert next(watch).done == 1
    folder_farm.pause(job)
    assert next(watch).state is JobState.PAUSED
    folder_farm.resume(job)
    threading.Thread(target=folder_worker.work).start()
    *_, last = watch
    assert (last.state, last.done) == (JobState.DONE, 3)
    assert [status.state for status in folder_farm.watch(job)] == [JobState.DONE]


def test_a_watch_tells_how_far_running_images_are(folder_farm: Farm, folder_worker: Worker) -> None:
    job = folder_farm.submit([b"x", b"y", b"z"], model="m")
    assert folder_worker.claim()
    assert folder_worker.claim()
    previews = Previews(folder_worker.client)
    assert previews.watched([job]) == set()
    watch = folder_farm.watch(job)
    assert (next(watch).steps, previews.watched([job])) == (None, {job})
    previews.count(job, 0, 6, 20)
    assert (status := next(watch)).steps == (6, 20)
    assert status.under_way == pytest.approx(0.3)
    previews.count(job, 1, 5, 10)
    assert (status := next(watch)).steps == (11, 30)
    assert status.under_way == pytest.approx(0.8)


def test_a_cancelled_job_ends_its_watch_and_its_results(folder_farm: Farm, folder_worker: Worker) -> None:
    job = folder_farm.submit([b"x", b"y", b"z"], model="m")
    claim = folder_worker.claim()
    assert claim is not None
    folder_worker.finish(claim)
    watch, results = folder_farm.watch(job), folder_farm.results(job)
    next(watch)
    next(results)
    assert folder_farm.cancel(job) == 2
    assert [status.state for status in watch][-1] is JobState.CANCELLED
    assert list(results) == []


def test_another_tenant_sees_none_of_it(folder_farm: Farm, folder_worker: Worker) -> None:
    job = folder_farm.submit(b"x", model="m")
    with Farm(folder_farm.redis_url, folder_farm.store_url, tenant="other") as other:
        assert other.jobs() == []
        for ask in (other.status, other.job, other.cancel, other.pause, other.retry):
            with pytest.raises(NotFound, match=job):
                ask(job)
        for follow in (other.watch, other.results, other.images):
            with pytest.raises(NotFound, match=job):
                list(follow(job))


def test_the_default_model_is_the_one_that_is_served(folder_farm: Farm, folder_worker: Worker) -> None:
    assert folder_farm.default_model() == "demo"
    for number, model in enumerate(("v1-5", "xl")):
        folder_worker.ledger.beat(WorkerInfo(id=str(number), model=model, device="cpu", slots=1))
        if number == 0:
            assert folder_farm.default_model() == "v1-5"
            assert folder_farm.job(folder_farm.submit(b"x")).model == "v1-5"
    with pytest.raises(Refused, match=r"model is missing: .* v1-5, xl"):
        folder_farm.submit(b"x")


def test_a_redis_without_a_store_is_refused_and_one_that_is_away_is_said_so(redis_url: str) -> None:
    with pytest.raises(Refused, match="IMG2IMG_STORE_URL"):
        Farm(redis_url)
    with pytest.raises(Unavailable, match=r"redis://127\.0\.0\.1:1 does not answer"):
        Farm("redis://127.0.0.1:1", "memory://")


def test_a_redis_that_takes_no_writes_is_said_so_before_long(
    redis: redis_module.Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("img2img_producer.client.SUBMIT", 0.5)
    with Farm(redis_url, tmp_path) as farm:
        redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(Unavailable, match="takes no writes"):
                farm.submit(b"x", model="m")
        finally:
            redis.config_set("maxmemory", 0)
        assert farm.jobs() == []
