"""Models that a worker avoids for a while, because they could not be loaded or render wrongly."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

#: seconds for which such a model is left alone; it doubles each time, to the longest
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 3600.0


@dataclass(frozen=True, kw_only=True)
class _SetAside:
    """A model that is set aside."""

    #: when it may be tried again, on the monotonic clock
    until: float
    #: how often in a row it was set aside
    times: int
    error: Exception


class ModelsSetAside:
    """The models that are set aside; thread-safe."""

    def __init__(self) -> None:
        self._models: dict[str, _SetAside] = {}

    def __contains__(self, model: str) -> bool:
        """Whether it was set aside and has not been loaded since, even if it may be tried again."""
        return model in self._models

    def add(self, model: str, error: Exception) -> float:
        """Set a model aside; returns for how many seconds."""
        known = self._models.get(model)
        times = 0 if known is None else known.times
        pause = min(FIRST_PAUSE * 2.0 ** min(times, 16), LONGEST_PAUSE)
        self._models[model] = _SetAside(until=time.monotonic() + pause, times=times + 1, error=error)
        return pause

    def forget(self, model: str) -> None:
        """Note that it could be loaded."""
        self._models.pop(model, None)

    def may_try(self, model: str) -> bool:
        """Whether it is not set aside, or has been for long enough."""
        found = self._models.get(model)
        return found is None or found.until <= time.monotonic()

    def reasons(self, models: Collection[str]) -> Mapping[str, str]:
        """Those of these models that may not be tried yet, and why."""
        now = time.monotonic()
        return {
            name: str(each.error) or type(each.error).__name__
            for name, each in self._models.copy().items()
            if each.until > now and name in models
        }

    @property
    def first_error(self) -> Exception:
        """Why the first of them was set aside; there must be one."""
        return next(each.error for each in self._models.values())
