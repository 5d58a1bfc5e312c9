"""Takes back expired leases, and replaces lost tickets: one worker does so for each model."""

import time

from celery import Celery

from img2img_shared.ledger import Ledger
from img2img_shared.ledger.image_claims import TERM
from img2img_shared.queue import top_up
from img2img_worker.farm.current_model import CurrentModel
from img2img_worker.farm.events import Observer, TakenBack
from img2img_worker.farm.model_switcher import ModelSwitcher


class ModelJanitor:
    """Works for the current model, the last ones before it, and other models that nobody looks after."""

    def __init__(
        self,
        app: Celery,
        *,
        ledger: Ledger,
        current: CurrentModel,
        switcher: ModelSwitcher,
        observe: Observer,
    ) -> None:
        self._app = app
        self._ledger = ledger
        self._current = current
        self._switcher = switcher
        self._observe = observe
        #: when to ask again whether this worker is the janitor of a model
        self._candidate_from: dict[str, float] = {}
        #: models whose janitor it was last
        self._elected: set[str] = set()

    def round(self) -> None:
        """Make the images of dead workers claimable again, and see that waiting images have tickets.

        Raises:
            Unavailable: Redis does not answer.
        """
        for model in {self._current.info.model, *self._elected, *self._switcher.orphans}:
            if time.monotonic() >= self._candidate_from.get(model, 0.0):
                self._look_after(model)

    def _look_after(self, model: str) -> None:
        leases = self._ledger.take_back(model, self._current.info.id)
        if leases is None:  # another worker's part: on a large farm not all are to ask each second
            self._elected.discard(model)
            self._candidate_from[model] = time.monotonic() + min(TERM, self._ledger.lease / 8)
            return
        self._elected.add(model)
        if leases.handed_back or leases.suspects or leases.failed:
            self._observe(TakenBack(leases=leases))
        top_up(self._app, self._ledger, model)
