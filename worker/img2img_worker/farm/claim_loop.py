"""Claims of images: one after the other taken, made by its recipe, stored and reported."""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from functools import lru_cache
from typing import Any, TypeVar

import torch
from celery.utils.time import get_exponential_backoff_interval
from numpy.typing import NDArray

from img2img_shared.errors import FarmError, Refused, StoreError, Unavailable, WireError
from img2img_shared.job import PAGE, Input, Job, inputs_key
from img2img_shared.ledger import Ledger
from img2img_shared.records import Claim
from img2img_shared.store import Store
from img2img_shared.wire import decode_inputs
from img2img_worker.engine.engine import Engine, Render
from img2img_worker.farm.backoff import Backoff, shortage
from img2img_worker.farm.leases import LeasedClaim, Leases
from img2img_worker.farm.recipe import Files, Recipe, Served, ingredients, recipe

log = logging.getLogger(__name__)

#: tries at a store, or Redis, that fails for a while, some five minutes in all
TRIES = 14
#: seconds, at most, between two tries
LONGEST_PAUSE = 30

#: seconds before a ticket returns that found nothing while other images are in hand
PAUSE = 0.2

#: exit status of a worker whose engine works no more
BROKEN = 70

T = TypeVar("T")


class Stopped(Exception):
    """The worker ends, or the claim was lost: leave the image as it is."""


class ClaimLoop:
    """Claims and makes images of one model until it is told to stop. Each ticket's thread calls `serve`."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        store: Store,
        engine: Engine,
        leases: Leases,
        served: Served,
        worker: str,
        stopping: threading.Event,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._engine = engine
        self._leases = leases
        self._served = served
        self._worker = worker
        self._stopping = stopping
        self._rest = Backoff(stopping, longest=ledger.lease / 4)
        self._job = lru_cache(maxsize=256)(ledger.job)
        self._page = lru_cache(maxsize=64)(self._fetch_page)

    def serve(self, seconds: float) -> int:
        """Claim and render, one after the other, until nothing is left or `seconds` are over.

        Returns:
            how many images were claimed.
        """
        end = time.monotonic() + seconds
        claimed = 0
        while not self._stopping.is_set() and time.monotonic() < end:
            self._rest.take()
            claim = self._claim()
            if claim is None:
                if len(self._leases):  # the ledger may want this worker idle, for a suspect: no hurry
                    self._stopping.wait(PAUSE)
                break
            claimed += 1
            self._carry(claim)
        return claimed

    def _claim(self) -> Claim | None:
        """The next image of this model, or None. Where the reply is lost, the nonce asks for it again."""
        nonce = uuid.uuid4().hex
        for _ in range(2):
            try:
                return self._ledger.claim(self._served.model, self._worker, nonce, idle=not len(self._leases))
            except Unavailable as error:
                log.warning("no claim: %s", error)
                if self._stopping.wait(1):
                    break
        return None

    def _carry(self, claim: Claim) -> None:
        """One image to its end, whatever that is; never raises."""
        held = self._leases.hold(claim)
        try:
            self._make(held)
        except Exception as error:
            self._give_up(held, error)
        finally:
            self._leases.let_go(held)

    def _give_up(self, held: LeasedClaim, error: Exception) -> None:
        """`error` ended this attempt: what that means for the image."""
        claim = held.claim
        if isinstance(error, torch.AcceleratorError) or self._engine.broken:
            # nothing works on this device any more, and any of the images in flight may be to blame: what
            # the ledger does for those of a worker that died (each runs alone, three lives) is right here too
            log.critical("the engine is broken, this worker ends", exc_info=error)
            os._exit(BROKEN)
        if isinstance(error, Stopped | CancelledError | Unavailable):
            log.debug("image %d of job %s: put back: %r", claim.index, claim.job_id, error)
            self._report(held, lambda: self._ledger.release(claim))
        elif isinstance(error, WireError):
            self._put_back(held, str(error))  # a worker of a newer version may read it
        elif short_of := shortage(error):
            self._put_back(held, f"{short_of}: {str(error) or type(error).__name__}")
        elif isinstance(error, StoreError):
            self._report(held, lambda: self._ledger.fail(claim, error.reason))
        elif isinstance(error, FarmError):
            self._report(held, lambda: self._ledger.fail(claim, str(error)))
        else:
            log.error("image %d of job %s", claim.index, claim.job_id, exc_info=error)
            self._report(held, lambda: self._ledger.fail(claim, f"{type(error).__name__}: {error}"))

    def _put_back(self, held: LeasedClaim, trouble: str) -> None:
        """Not here, or not now: the image waits for another worker, or a better time; but not forever."""
        claim = held.claim
        log.warning("image %d of job %s: put back: %s", claim.index, claim.job_id, trouble)
        self._report(held, lambda: self._ledger.release(claim, self._ledger.lease / 8, trouble))
        self._rest.prolong()

    def _make(self, held: LeasedClaim) -> None:
        claim = held.claim
        job = self._patiently(held, lambda: self._job(claim.job_id, claim.tenant))
        item = self._input(held, job)
        blobs = {key: self._fetch(held, key) for key in ingredients(job, item)}
        for key, data in self._follow(recipe(job, item, claim.index, blobs, self._served), held).items():
            self._put(held, key, data)
        self._report(held, lambda: self._ledger.finish(claim))
        self._rest.end()

    def _follow(self, steps: Recipe, held: LeasedClaim) -> Files:
        """A recipe's renders, through the engine, to the files that come out of them."""
        try:
            renders = next(steps)
            while True:
                renders = steps.send(self._rendered(renders, held))
        except StopIteration as end:
            files: Files = end.value
            return files

    def _rendered(self, renders: Sequence[Render], held: LeasedClaim) -> list[NDArray[Any]]:
        """What the engine makes of all; once one fails, or the claim is lost, the others are dropped."""
        counted = held.counter()
        futures = [self._engine.submit(render, counted) for render in renders]
        held.picture = futures[-1]
        held.stop_with(lambda: _cancel(futures), lambda: self._engine.end_early(*futures))
        try:
            return [future.result() for future in futures]
        finally:
            _cancel(futures)

    def _fetch(self, held: LeasedClaim, key: str) -> bytes:
        return self._patiently(held, lambda: self._store.get_picture(key))

    def _put(self, held: LeasedClaim, key: str, data: bytes) -> None:
        self._patiently(held, lambda: self._store.put(key, data))

    def _input(self, held: LeasedClaim, job: Job) -> Input:
        number, _ = job.output(held.claim.index)
        page, place = divmod(number, PAGE)
        inputs = self._patiently(held, lambda: self._page(job.id, page))
        if place >= len(inputs):
            raise Refused("inputs", f"page {page} of {len(inputs)}", f"a page that holds input {number}")
        return inputs[place]

    def _fetch_page(self, job_id: str, page: int) -> tuple[Input, ...]:
        return decode_inputs(self._store.get(inputs_key(job_id, page)))

    def _patiently(self, held: LeasedClaim, call: Callable[[], T]) -> T:
        """`call`, again and again with growing, jittered pauses while the store or Redis fails in passing."""
        for tries in range(TRIES):
            if held.lost or self._stopping.is_set():
                raise Stopped
            try:
                return call()
            except (StoreError, Unavailable) as error:
                passing = isinstance(error, Unavailable) or error.transient
                if not passing or tries == TRIES - 1:
                    raise
                log.warning("%s; trying again", error)
                pause = get_exponential_backoff_interval(1, tries, LONGEST_PAUSE, full_jitter=True)
                self._stopping.wait(pause)
        raise AssertionError("unreachable")

    def _report(self, held: LeasedClaim, report: Callable[[], bool]) -> None:
        """Tell the ledger how the attempt ended, until it has heard; a late report has no effect there."""
        while True:
            try:
                if not report():
                    log.info(
                        "image %d of job %s: another attempt has it", held.claim.index, held.claim.job_id
                    )
                return
            except Unavailable as error:
                log.warning("not reported: %s", error)
                if held.lost or self._stopping.wait(1):
                    return  # its lease runs out, and it is rendered again


def _cancel(futures: Sequence[Future[Any]]) -> None:
    for future in futures:
        future.cancel()
