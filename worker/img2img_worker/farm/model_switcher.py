"""Decides, together with the ledger, which model a worker has on its device, and exchanges it."""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from random import uniform

import torch

from img2img_shared.errors import FarmError, Refused, Unavailable
from img2img_shared.ledger import Ledger
from img2img_shared.placement import Placement, Position
from img2img_worker.farm import memory
from img2img_worker.farm.broken import end_broken
from img2img_worker.farm.current_model import CurrentModel
from img2img_worker.farm.events import Loaded, Observer, Warned
from img2img_worker.farm.health import Health
from img2img_worker.farm.image_pace import ImagePace
from img2img_worker.farm.leases import Leases
from img2img_worker.farm.model_loader import ModelLoader
from img2img_worker.farm.models_set_aside import ModelsSetAside
from img2img_worker.farm.redis_wait import when_redis_answers

#: seconds between two questions whether another model is wanted more, about
ASK = 1.0
#: seconds between two looks at which models there are, and between two reports of how long an image takes
LOOK = 10.0
#: seconds between two looks at what is still in hand
DRAIN = 0.05

#: name to the name of its file or folder
Catalog = Callable[[], Mapping[str, str]]


class ModelSwitcher:
    """A thread that asks which model is needed most, and loads that; with only one model, it does nothing.

    Before an exchange, the images in hand are finished. A model that cannot be loaded is set aside for a
    while, and the worker continues with the others.

    Args:
        catalog: returns the models that exist now.
        follow: makes the worker take only tickets of this model from now on.
        begun: when the process was started, on the monotonic clock.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        loader: ModelLoader,
        current: CurrentModel,
        leases: Leases,
        health: Health,
        pace: ImagePace,
        catalog: Catalog,
        follow: Callable[[str], None],
        stopping: threading.Event,
        observe: Observer,
        begun: float,
    ) -> None:
        self._ledger = ledger
        self._loader = loader
        self._current = current
        self._leases = leases
        self._health = health
        self._pace = pace
        self._catalog = catalog
        self._follow = follow
        self._stopping = stopping
        self._observe = observe
        self._begun = begun
        self._known: Mapping[str, str] = {}
        self._next_look = 0.0
        self._aside = ModelsSetAside()
        self._since = 0.0
        #: models of this worker that nobody keeps house for
        self.orphans: Collection[str] = ()
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)

    def load_first(self) -> None:
        """Load the model that is needed most, or else one that the fewest workers have, and return then.

        Raises:
            Refused: none can be loaded.
        """
        self._look()
        while self._current.loaded is None:
            models = self._loadable()
            if not models:
                raise self._aside.first_error
            if len(self._known) == 1:
                self._load(models[0])
                continue
            placement = when_redis_answers(self._ledger.placement)
            to = placement.next_model(Position(model=None, models=models)) or _rarest(models, placement)
            if when_redis_answers(partial(self._ledger.move, self._current.info.id, None, to, placement)):
                self._load(to)

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if not self._thread.ident:
            self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when no model is being loaded."""
        if self._thread.is_alive():
            self._thread.join()

    @property
    def aside(self) -> Mapping[str, str]:
        """The models that are set aside, and why; thread-safe."""
        return self._aside.reasons(self._known)

    def set_aside(self, model: str, error: Exception) -> None:
        """Set a model aside for a while; thread-safe."""
        pause = self._aside.add(model, error)
        is_foreseen = isinstance(error, FarmError | MemoryError | torch.OutOfMemoryError)
        reason = str(error) if isinstance(error, FarmError) else f"{type(error).__name__}: {error}"
        text = f"{model} is set aside for {pause:.0f} s: {reason}"
        self._observe(Warned(text=text, error=None if is_foreseen else error))
        self._announce()

    def replaced(self, model: str) -> None:
        """Note that the name of a model now stands for another checkpoint; thread-safe."""
        if model not in self._aside:
            self.set_aside(model, Refused("model", model, "its name stands for another checkpoint now"))

    def round(self) -> None:
        """Ask once, and act on the answer.

        Raises:
            Unavailable: Redis does not answer.
        """
        self._look()
        if self._current.loaded is not None and self._known.keys() <= {self._current.info.model}:
            return
        if (
            trouble := self._health.cannot_render
        ) is not None and self._current.info.model not in self._aside:
            self.set_aside(self._current.info.model, Unavailable(trouble))
        placement = self._ledger.placement()
        mine = {self._current.info.model, *self._current.info.others}
        self.orphans = [
            name for name, each in placement.demands.items() if name in mine and not each.has_janitor
        ]
        if self._current.loaded is None:
            wanted = placement.next_model(Position(model=None, models=self._loadable()))
            self._load_any(placement, wanted)
        elif (to := self._wanted(placement)) is not None and self._ledger.move(
            self._current.info.id, self._current.info.model, to, placement
        ):
            self._exchange(to)

    def _run(self) -> None:
        while not self._stopping.wait(uniform(0.75, 1.25) * ASK):  # they do not all ask at once
            try:
                self.round()
            except Unavailable:
                continue  # others say so
            except Exception as error:
                self._observe(Warned(text="the worker keeps its model after an error", error=error))

    def _wanted(self, placement: Placement) -> str | None:
        """The model to load in place of the current one, or None."""
        own, models = self._current.info.model, self._loadable()
        if own in self._aside:
            position = Position(model=None, models=models, load_seconds=self._loader.seconds)
            return placement.next_model(position) or (_rarest(models, placement) if models else None)
        if self._health.trouble:
            return None
        position = Position(
            model=own,
            models=models,
            is_busy=len(self._leases) > 0,
            stayed=time.monotonic() - self._since,
            load_seconds=self._loader.seconds,
        )
        return placement.next_model(position)

    def _exchange(self, to: str) -> None:
        """Finish the images in hand, and load another model; if that fails, the old one again, or any."""
        before, loaded = self._current.info.model, self._current.loaded
        self._announce(to)
        try:
            self._loader.fetch(to)  # meanwhile the old one renders
        except Exception as error:
            if self._stopping.is_set():
                return
            self._ledger.move(self._current.info.id, to, before, None)
            self._came_back(to)
            self._came_back(before)
            if loaded is not None:
                self._current.put(loaded)
            self.set_aside(to, error.with_traceback(None))
            return
        self._current.close()
        while len(self._leases):
            if self._stopping.wait(DRAIN):
                return
        del loaded
        if (loaded := self._current.take()) is not None:
            self._loader.unload(loaded)
            del loaded  # nothing else keeps it on the device
        if not self._load(to):
            self._load_any(self._ledger.placement(), before)

    def _load_any(self, placement: Placement, first: str | None) -> None:
        """Load some model, so that the worker can continue; without one, it claims nothing."""
        for name in sorted(self._loadable(), key=lambda name: (name != first, _workers(name, placement))):
            self._ledger.move(self._current.info.id, self._current.info.model, name, None)
            self._announce(name)
            if self._load(name):
                return
        self._health.lack("none of its models can be loaded")

    def _load(self, model: str) -> bool:
        """Load a model onto the device; False: that failed, and it is set aside."""
        try:
            loaded = self._loader.load(model)
        except Exception as error:
            if isinstance(error, torch.AcceleratorError):
                end_broken(error)
            self._came_back(model)
            self.set_aside(model, error.with_traceback(None))
            return False
        self._came_back(model)
        self._aside.forget(model)
        is_first, self._since = not self._since, time.monotonic()
        self._current.put(loaded)
        self._announce()
        self._health.lack(None)
        self._follow(model)
        family = loaded.checkpoint.family
        seconds = self._since - self._begun if is_first else loaded.seconds
        self._observe(
            Loaded(
                worker=self._current.info,
                family=family.name,
                memory=memory.describe(family.device),
                seconds=seconds,
            )
        )
        when_redis_answers(partial(self._ledger.describe, model, self._current.info.takes))
        if not loaded.was_waiting:  # what it takes a worker that has not had it
            when_redis_answers(partial(self._ledger.measured, model, load=loaded.seconds))
        return True

    def _came_back(self, model: str) -> None:
        when_redis_answers(partial(self._ledger.load_ended, self._current.info.id, model))

    def _look(self) -> None:
        """Now and then, look which models exist, and how long their images take."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK
        self._known = self._catalog()
        self._announce()
        if (found := self._pace.take()) is not None:
            model, seconds = found
            self._ledger.measured(model, image=seconds)

    def _loadable(self) -> list[str]:
        return [name for name in self._known if self._aside.may_try(name)]

    def _announce(self, loading: str | None = None) -> None:
        """Change what the next beat tells the farm."""
        others = {name: self._known[name] for name in self._loadable()}
        is_one = others.keys() <= {self._current.info.model}
        self._current.announce(others={} if is_one else others)
        if loading is not None:
            self._current.announce(
                model=loading, file_name=self._known.get(loading, ""), sha256=None, vae_sha256=None, takes=()
            )


def _workers(model: str, placement: Placement) -> int:
    return placement.demands[model].workers if model in placement.demands else 0


def _deaths(model: str, placement: Placement) -> int:
    return placement.demands[model].deaths if model in placement.demands else 0


def _rarest(models: Collection[str], placement: Placement) -> str:
    """The model that the fewest workers have, or have died of."""
    return min(models, key=lambda name: (_deaths(name, placement), _workers(name, placement)))
