"""How much of a worker's time an image of a model takes, with all slots together."""

import threading
import time

from img2img_worker.farm.events import Claimed, Event, Finished, LetGo

#: images that must have been finished before they say anything
ENOUGH = 4


class ImagePace:
    """An observer: the time during which images are in hand, divided by the images finished."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model = ""
        self._in_hand = self._finished = 0
        self._busy = 0.0
        self._since = 0.0

    def __call__(self, event: Event) -> None:
        """Count an event."""
        with self._lock:
            self._pass()
            match event:
                case Claimed(claim=claim):
                    if claim.model != self._model:
                        self._model, self._busy, self._finished = claim.model, 0.0, 0
                    self._in_hand += 1
                case LetGo():
                    self._in_hand -= 1
                case Finished():
                    self._finished += 1

    def take(self) -> tuple[str, float] | None:
        """The model, and seconds per image since the last call; None: too few images to tell."""
        with self._lock:
            self._pass()
            if self._finished < ENOUGH:
                return None
            seconds = self._busy / self._finished
            self._busy, self._finished = 0.0, 0
            return self._model, seconds

    def _pass(self) -> None:
        """Add the time that has passed."""
        now = time.monotonic()
        if self._in_hand:
            self._busy += now - self._since
        self._since = now
