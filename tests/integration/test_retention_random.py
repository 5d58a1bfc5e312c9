"""Uploads, submits, removals and a janitor that is killed anywhere, at random: what a job names stays."""

import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from img2img_shared.durations import read_duration
from img2img_shared.errors import Refused
from img2img_shared.farm.intake import Source
from img2img_shared.farm.service import FarmService
from img2img_shared.farm.store_janitor import StoreJanitor
from img2img_shared.farm.submission import Upload
from img2img_shared.job import inputs_key, picture_digest
from img2img_shared.params import Params
from img2img_shared.settings import Settings
from img2img_shared.store import Store
from img2img_shared.wire import decode_inputs
from tests.integration.gateway import PATIENCE, FakeWorker, picture

FARM = "{img2img}"
#: the pictures that everybody uses again and again
PICTURES = [picture(number) for number in range(6)]


class Killed(BaseException):
    """The process of the janitor is gone."""


class HostileStore(Store):
    """A janitor's store: before and after each call anything may happen."""

    def __init__(self, url: str, happen: Callable[[], None]) -> None:
        super().__init__(url)
        self._happen = happen

    def get(self, key: str) -> bytes:
        self._happen()
        return super().get(key)

    def written(self, key: str) -> float | None:
        found = super().written(key)
        self._happen()
        return found

    def delete(self, key: str) -> None:
        self._happen()
        super().delete(key)
        self._happen()

    def put(self, key: str, data: bytes) -> None:
        self._happen()
        super().put(key, data)


class Run:
    """A farm, its users, its worker and its janitors, by one seed."""

    def __init__(self, redis_url: str, s3_url: str, raw: Any, seed: int) -> None:
        self._random = random.Random(seed)
        self._raw = raw
        settings = Settings(redis_url=redis_url, store_url=s3_url)
        self.service = FarmService(settings)
        self.worker = FakeWorker(redis_url, s3_url)
        self.janitor_store = HostileStore(s3_url, self._happen)
        self._settings = settings
        self._pool = ThreadPoolExecutor(4)
        self._calls: list[Future[None]] = []
        #: jobs that were acknowledged, and that nobody has removed or let go
        self.kept: set[str] = set()
        self.kills = 0
        #: why submits were refused
        self.reasons: set[str] = set()
        self._is_calm = False

    def go(self, steps: int) -> None:
        """So many things happen, one after another, and others within them."""
        for _ in range(steps):
            self._random.choice((self._act, self._act, self._work, self._clean))()
            self.check()

    def check(self) -> None:
        """Whatever a job names is there, with its own bytes, and so is what was made of it."""
        for call in self._calls:
            call.result(PATIENCE)
        self._calls.clear()
        for job_id in self.kept:
            job = self.service.ledger.job(job_id, "default")
            (item,) = decode_inputs(self.service.store.get(inputs_key(job_id, 0)))
            for key in job.pictures_of(item).values():
                self.service.store.get_picture(key)
            if self.service.ledger.status(job_id, "default").done:
                assert self.service.store.exists(f"jobs/{job_id}/0.png")

    def end(self) -> None:
        """Everything is removed, and nothing stays but what the farm itself keeps there."""
        self._is_calm = True
        for job in self.service.ledger.jobs("default", 1000):
            self._remove(job.id)
        assert all("upload the picture first" in reason for reason in self.reasons)
        self._new_janitor().clean(uploads=0.0, orphans=0.0)
        assert {each.key for each in self.service.store.objects("inputs")} == set()
        assert {each.key for each in self.service.store.objects("jobs")} == set()

    def close(self) -> None:
        """Let go of it all."""
        self._pool.shutdown()
        self.worker.client.close()
        self.service.close()

    def _new_janitor(self) -> StoreJanitor:
        return StoreJanitor(self.service.redis, self.janitor_store, self._settings)

    def _happen(self) -> None:
        """In the middle of a janitor's work: a user does something meanwhile, or the janitor is killed."""
        if self._is_calm:
            return
        chance = self._random.random()
        if chance < 0.06:
            raise Killed
        if chance < 0.3:
            self._act()

    def _act(self) -> None:
        """A user's doing, in a thread of its own: it may have to wait for the janitor."""
        chance, data = self._random.random(), self._random.choice(PICTURES)
        removed = self._random.choice(sorted(self.kept)) if self.kept else None
        reference = f"inputs/{picture_digest(self._key_of(data))}"
        keep = self._random.choice(["forever", "forever", "0s", "1000d"])
        if chance < 0.2:
            self._call(lambda: self.service.intake.upload("default", data, "body"))
        elif chance < 0.5:
            self._call(lambda: self._submit(data, keep, self._random.random() < 0.2))
        elif chance < 0.8:
            self._call(lambda: self._submit(reference, keep, self._random.random() < 0.2))
        elif removed is not None:
            self._remove(removed)

    def _call(self, what: Callable[[], Any]) -> None:
        self._calls.append(self._pool.submit(what))

    def _key_of(self, data: bytes) -> str:
        return Store("memory://").put_picture("default", data)

    def _submit(self, source: Source, keep: str, is_given_up: bool) -> None:
        params = Params(width=64, height=64)
        submission = self.service.begin(tenant="default", model="m", params=params, keep=keep)
        try:
            submission.set_picture("mask", source)
            submission.add(Upload(pictures={"image": source}))
            if is_given_up:
                submission.abandon()
                return
            job_id = submission.commit().id
        except Refused as error:  # a reference to what is gone: before anything is acknowledged
            submission.abandon()
            self.reasons.add(error.reason)
            return
        if read_duration(keep) != 0:
            self.kept.add(job_id)

    def _remove(self, job_id: str) -> None:
        self.kept.discard(job_id)
        self.service.cancel(job_id, "default", "somebody")
        self.service.remove(job_id, "default", "somebody")

    def _work(self) -> None:
        """Some images are rendered, and their inputs are there."""
        for _ in range(self._random.randrange(3)):
            claim = self.worker.claim()
            if claim is None:
                return
            job = self.service.ledger.job(claim.job_id, claim.tenant)
            (item,) = decode_inputs(self.service.store.get(inputs_key(job.id, 0)))
            for key in job.pictures_of(item).values():
                self.service.store.get_picture(key)
            self.worker.end(claim)

    def _clean(self) -> None:
        """A janitor's look, which removes whatever nothing names, however new it is; or its death."""
        try:
            self._new_janitor().clean(uploads=0.0)
        except Killed:
            self.kills += 1
            # minutes pass: what it held is free again, and what it took is given to the next
            self._raw.delete(f"{FARM}:gateway:janitor", f"{FARM}:doomed")
            for member in self._raw.zrange(f"{FARM}:removed", 0, -1):
                self._raw.zadd(f"{FARM}:removed", {member: 0}, xx=True)


@pytest.mark.parametrize("seed", range(3))
def test_what_a_job_names_stays_whatever_happens(redis_url: str, s3_url: str, redis: Any, seed: int) -> None:
    run = Run(redis_url, s3_url, redis, seed)
    try:
        run.go(40)
        assert run.kills > 0
        run.end()
    finally:
        run.close()
