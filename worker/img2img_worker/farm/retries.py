"""Calls to the ledger and the store on behalf of a claim, retried while these do not answer."""

import threading
import time
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from img2img_shared.errors import FarmError, StoreError, Unavailable
from img2img_shared.job import ImageState
from img2img_worker.farm.backoff import pause_before
from img2img_worker.farm.events import Observer, StoreFailed, TooLate, Warned
from img2img_worker.farm.health import Health
from img2img_worker.farm.leases import LeasedClaim, Leases, Stopped

#: seconds, at most, between two tries at a store, or Redis, that fails
LONGEST_PAUSE = 30.0

T = TypeVar("T")


class Retries:
    """Calls on behalf of claims, retried until the claim ends; `lease` is the ledger's, in seconds."""

    def __init__(
        self, *, lease: float, leases: Leases, health: Health, stopping: threading.Event, observe: Observer
    ) -> None:
        self._lease = lease
        self._leases = leases
        self._health = health
        self._stopping = stopping
        self._observe = observe

    def from_ledger(self, held: LeasedClaim, call: Callable[[], T]) -> T:
        """The result of `call`, retried while Redis is away: meanwhile nobody else gets the image."""
        for tries in count():
            try:
                return call()
            except Unavailable as error:
                self._pause(held, tries, error)
        raise AssertionError("unreachable")

    def from_store(self, held: LeasedClaim, call: Callable[[], T]) -> T:
        """The result of `call`, retried for up to a lease while the store, or the way to it, fails.

        So a brief failure does not waste the render, and after a long one another worker gets the image.
        """
        end = time.monotonic() + self._lease
        for tries in count():
            if held.lost:
                raise Stopped
            try:
                with held.asking():
                    return call()
            except StoreError as error:
                self._observe(StoreFailed(claim=held.claim))
                with held.asking():  # what hung, hangs there too
                    trouble = self._health.check_store()
                is_worth_it = not error.missing and (error.transient or trouble is not None)
                if not is_worth_it or time.monotonic() > end:
                    raise
                self._pause(held, tries, error)
        raise AssertionError("unreachable")

    def _pause(self, held: LeasedClaim, tries: int, error: FarmError) -> None:
        """Wait before the next try, longer each time, with jitter.

        Raises:
            Stopped: the claim was lost.
        """
        like = error.reason.rpartition(": ")[2] if isinstance(error, StoreError) else ""
        self._observe(Warned(text=f"{error}; trying again", like=like))
        held.wait(pause_before(tries, LONGEST_PAUSE))

    def report(self, held: LeasedClaim, report: Callable[[], T]) -> T | ImageState | None:
        """Report how the attempt ended; returns the ledger's answer, or None if there is none.

        If the answer to a report that took effect was lost, it is the state that the image was left in.
        """
        heard: T | ImageState | None
        for tries in count():
            try:
                heard = report()
                if not heard and tries:
                    heard = self._leases.end_of(held.claim)
            except Unavailable as error:
                self._observe(Warned(text=f"not reported: {error}"))
                if held.lost or self._stopping.wait(1):
                    return None  # its lease runs out, and it is rendered again
            else:
                if not heard:
                    self._observe(TooLate(claim=held.claim))
                return heard
        raise AssertionError("unreachable")
