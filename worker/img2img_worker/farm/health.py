"""Whether a worker is fit to claim images; one that is not would fail images that others can render."""

import threading
import time
from collections.abc import Callable

from img2img_shared.errors import StoreError, Unavailable
from img2img_worker.farm.backoff import pause_before
from img2img_worker.farm.events import BackInService, Observer, OutOfService

#: seconds between two looks at whether the worker ends
PAUSE = 0.5
#: images in a row at which a worker fails and others do not, until it is no longer trusted
OUTDONE = 3


class Check:
    """A check of one thing that a worker needs; callers at the same time share one run of it.

    Args:
        look: raises what is wrong; `Unavailable` means that it cannot be told now, which changes nothing.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._begun = 0.0
        #: what was wrong when it was looked at last, for everybody
        self.trouble: str | None = None
        #: the same for who runs the farm
        self.detail = ""

    def now(self) -> str | None:
        """What is wrong, by a run that began after this call, or None."""
        asked = time.monotonic()
        with self._lock:
            if self._begun < asked:
                self._begun = time.monotonic()
                self._find_out()
            return self.trouble

    def _find_out(self) -> None:
        try:
            self._look()
            self.trouble = None
        except Unavailable:
            return
        except StoreError as error:
            self.trouble, self.detail = error.reason, str(error)
        except Exception as error:
            self.trouble = self.detail = f"{type(error).__name__}: {error}"


class Health:
    """A circuit breaker for claims.

    The worker claims nothing while a check fails, while an operator has disabled it, or if others succeed
    where it fails.

    Args:
        store: writes to the farm's store and reads from it.
        rendering: renders a picture that is known to be good.
        stopping: set when the worker ends.
        longest: most seconds between two checks of what is broken.
    """

    def __init__(
        self,
        *,
        store: Check,
        rendering: Check,
        stopping: threading.Event,
        longest: float,
        observe: Observer,
    ) -> None:
        self._store = store
        self._rendering = rendering
        self._stopping = stopping
        self._longest = longest
        self._observe = observe
        self._lock = threading.Lock()
        self._fit = threading.Event()
        self._fit.set()
        self._since = self._next_check = 0.0
        self._checks = 0
        self._order: str | None = None
        self._hanging: str | None = None
        self._lacking: str | None = None
        self._distrust: str | None = None
        self._distrusted_until = 0.0
        self._times_distrusted = 0
        #: images that others had done after this worker could not, and that it had done itself, at its last
        self._outdone = self._done = 0

    @property
    def trouble(self) -> str | None:
        """Why the worker claims nothing, or None if it does."""
        found = (
            self._order,
            self._hanging,
            self._lacking,
            self._store.trouble,
            self._rendering.trouble,
            self._distrust,
        )
        return next((trouble for trouble in found if trouble), None)

    @property
    def cannot_render(self) -> str | None:
        """What is known to be wrong with how this worker renders, or None."""
        return self._rendering.trouble

    def wait(self) -> None:
        """Wait until the worker may claim, or is to end."""
        while not self._stopping.is_set() and not self._fit.wait(PAUSE):
            pass

    def check_store(self) -> str | None:
        """Check this worker's store, and its connection; returns what is wrong, or None."""
        found = self._store.now()
        self._settle()
        return found

    def check_all(self) -> str | None:
        """Check store and rendering; returns what is wrong, or None."""
        found = self._store.now() or self._rendering.now()
        self._settle()
        return found

    def obey(self, order: str | None) -> None:
        """Claim nothing, for an operator's reason; None: the operator has none (any more)."""
        self._order = order
        self._settle()

    def hang(self, trouble: str | None) -> None:
        """Claim nothing while something hangs, so that no check would end; None: nothing hangs (any more)."""
        self._hanging = trouble
        self._settle()

    def lack(self, trouble: str | None) -> None:
        """Claim nothing while there is no model to render with; None: there is one (again)."""
        self._lacking = trouble
        self._settle()

    def compare(self, *, done: int, outdone: int, last_error: str | None) -> None:
        """Compare the images this worker has finished with those that others finished after it failed.

        Args:
            done: images that it has finished since its start.
            outdone: images at which it failed and others did not, since its start.
        """
        if done > self._done:
            self._done, self._outdone, self._times_distrusted = done, outdone, 0
        if outdone - self._outdone < OUTDONE or self._distrust is not None:
            return
        rest = self._longest * 2 ** (1 + min(self._times_distrusted, 5))
        self._times_distrusted += 1
        self._outdone = outdone
        self._distrusted_until = time.monotonic() + rest
        told = f"others have done {OUTDONE} images that it could not"
        self._distrust = f"{told}; its last error: {last_error}" if last_error else told
        self._settle()

    def round(self) -> None:
        """Check again what was broken; to be called now and then."""
        now = time.monotonic()
        if self._distrust is not None and now >= self._distrusted_until:
            self._distrust = None
            self._settle()
        is_failing = self._store.trouble is not None or self._rendering.trouble is not None
        if is_failing and now >= self._next_check:
            self._next_check = now + pause_before(self._checks, self._longest)
            self._checks += 1
            self.check_all()

    def _settle(self) -> None:
        with self._lock:
            trouble, was_fit = self.trouble, self._fit.is_set()
            if trouble is not None and was_fit:
                self._fit.clear()
                self._since, self._checks, self._next_check = time.monotonic(), 0, 0.0
                self._observe(OutOfService(reason=trouble, detail=self._detail(trouble)))
            elif trouble is None and not was_fit:
                self._fit.set()
                self._observe(BackInService(seconds=time.monotonic() - self._since))

    def _detail(self, trouble: str) -> str:
        for check in (self._store, self._rendering):
            if check.trouble == trouble:
                return check.detail
        return trouble
