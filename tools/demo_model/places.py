"""Lays out ground, water and things for each place, independent of the season."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tools.demo_model.things import Thing

Rng = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """A line of hills or mountains, filled down to the picture's foot or the water."""

    #: "far", "middle", "near" hills, "mountain", or "sand"
    kind: str
    #: mean height of the crest, 0 top to 1 foot
    y: float
    #: how far the crest goes up and down
    swing: float
    #: waves per height of the picture
    waves: float
    haze: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A place: ridges and things behind the water, the water, ridges and things before it."""

    sun: tuple[float, float]
    back: tuple[Ridge, ...]
    behind: tuple[Thing, ...]
    #: top edge of the water; None: no water
    water: float | None
    front: tuple[Ridge, ...]
    before: tuple[Thing, ...]
    #: a path from the foot to (x, y); None: none
    path: tuple[float, float] | None

    def kinds(self) -> frozenset[str]:
        """The kinds of things in it."""
        return frozenset(thing.kind for thing in self.behind + self.before)


def lay_out(place: str, seed: int, aspect: float) -> Layout:
    """The layout of one of ``labels.PLACES`` for a picture `aspect` times as wide as high."""
    rng = np.random.default_rng((seed, 1))
    return _PLACES[place](rng, aspect)


def _seed(rng: Rng) -> int:
    return int(rng.integers(2**31))


def _between(rng: Rng, low: float, high: float) -> float:
    return float(low + (high - low) * rng.random())


def _sun(rng: Rng, aspect: float) -> tuple[float, float]:
    return _between(rng, 0.15, 0.85) * aspect, _between(rng, 0.12, 0.3)


def _ridge(rng: Rng, kind: str, y: tuple[float, float], swing: float, waves: float, haze: float) -> Ridge:
    return Ridge(kind=kind, y=_between(rng, *y), swing=swing, waves=waves, haze=haze, seed=_seed(rng))


def _thing(rng: Rng, kind: str, x: float, y: float, size: float, haze: float = 0.0) -> Thing:
    return Thing(kind=kind, x=x, y=y, size=size, haze=haze, seed=_seed(rng))


def _grove(
    rng: Rng, aspect: float, count: int, y: tuple[float, float], size: tuple[float, float], haze: float
) -> list[Thing]:
    """Trees of one kind, the far ones first."""
    kind = "pine" if rng.random() < 0.5 else "tree"
    feet = sorted(_between(rng, *y) for _ in range(count))
    return [
        _thing(rng, kind, _between(rng, 0, 1) * aspect, foot, _between(rng, *size), haze) for foot in feet
    ]


def _birds(rng: Rng, aspect: float) -> list[Thing]:
    if rng.random() < 0.75:
        return []
    x, y = _between(rng, 0.2, 0.8) * aspect, _between(rng, 0.12, 0.25)
    return [
        _thing(rng, "bird", x + rng.normal() * 0.1, y + rng.normal() * 0.04, _between(rng, 0.025, 0.04))
        for _ in range(4)
    ]


def _people(
    rng: Rng, aspect: float, chance: float, y: tuple[float, float], x: tuple[float, float] = (0.2, 0.8)
) -> list[Thing]:
    if rng.random() > chance:
        return []
    centre, foot = _between(rng, *x) * aspect, _between(rng, *y)
    count = 1 if rng.random() < 0.6 else 2
    return [
        _thing(rng, "person", centre + 0.07 * k, foot + 0.01 * k, _between(rng, 0.15, 0.18))
        for k in range(count)
    ]


def _hills(rng: Rng, aspect: float) -> Layout:
    back = [
        _ridge(rng, "far", (0.42, 0.5), 0.08, 1.2, 0.6),
        _ridge(rng, "middle", (0.54, 0.6), 0.07, 0.9, 0.28),
    ]
    behind = _grove(rng, aspect, int(rng.integers(3, 8)), (0.6, 0.66), (0.1, 0.16), 0.22) + _birds(
        rng, aspect
    )
    main = rng.random()
    if main < 0.35:
        behind.append(
            _thing(rng, "windmill", _between(rng, 0.2, 0.8) * aspect, 0.64, _between(rng, 0.26, 0.34), 0.08)
        )
    elif main < 0.7:
        behind.append(
            _thing(rng, "house", _between(rng, 0.2, 0.8) * aspect, 0.68, _between(rng, 0.14, 0.2), 0.08)
        )
    before = _grove(rng, aspect, int(rng.integers(1, 4)), (0.84, 0.98), (0.28, 0.46), 0.0)
    before += _people(rng, aspect, 0.3, (0.86, 0.95))
    path = (_between(rng, 0.3, 0.7) * aspect, 0.72) if rng.random() < 0.5 else None
    return Layout(
        sun=_sun(rng, aspect),
        back=tuple(back),
        behind=tuple(behind),
        water=None,
        front=(_ridge(rng, "near", (0.7, 0.76), 0.05, 0.8, 0.0),),
        before=tuple(before),
        path=path,
    )


def _lake(rng: Rng, aspect: float) -> Layout:
    shore = _between(rng, 0.52, 0.6)
    back = [
        _ridge(rng, "mountain" if rng.random() < 0.5 else "far", (shore - 0.2, shore - 0.12), 0.12, 1.3, 0.5),
        _ridge(rng, "middle", (shore - 0.06, shore - 0.04), 0.03, 1.0, 0.2),
    ]
    behind = _grove(
        rng, aspect, int(rng.integers(4, 10)), (shore - 0.02, shore), (0.08, 0.15), 0.18
    ) + _birds(rng, aspect)
    if rng.random() < 0.5:
        behind.append(
            _thing(rng, "house", _between(rng, 0.15, 0.85) * aspect, shore, _between(rng, 0.11, 0.16), 0.06)
        )
    before = []
    if rng.random() < 0.7:
        before.append(
            _thing(
                rng,
                "boat",
                _between(rng, 0.2, 0.8) * aspect,
                _between(rng, shore + 0.1, 0.8),
                _between(rng, 0.2, 0.3),
            )
        )
    before += _grove(rng, aspect, int(rng.integers(0, 3)), (0.95, 1.0), (0.3, 0.5), 0.0)
    before += _people(rng, aspect, 0.25, (0.94, 0.98))
    return Layout(
        sun=_sun(rng, aspect),
        back=tuple(back),
        behind=tuple(behind),
        water=shore,
        front=(_ridge(rng, "near", (0.9, 0.94), 0.04, 0.7, 0.0),),
        before=tuple(before),
        path=None,
    )


def _coast(rng: Rng, aspect: float) -> Layout:
    shore = _between(rng, 0.48, 0.56)
    back = [_ridge(rng, "far", (shore - 0.03, shore - 0.01), 0.05, 0.7, 0.5)] if rng.random() < 0.6 else []
    behind = _birds(rng, aspect)
    before = []
    if rng.random() < 0.6:
        before.append(
            _thing(rng, "lighthouse", _between(rng, 0.12, 0.88) * aspect, 0.86, _between(rng, 0.48, 0.6))
        )
    if rng.random() < 0.75:
        x, y = _between(rng, 0.15, 0.85) * aspect, _between(rng, shore + 0.07, 0.72)
        before.insert(0, _thing(rng, "boat", x, y, _between(rng, 0.16, 0.28)))
    before += _people(rng, aspect, 0.4, (0.9, 0.97))
    kind = "sand" if rng.random() < 0.6 else "near"
    return Layout(
        sun=_sun(rng, aspect),
        back=tuple(back),
        behind=tuple(behind),
        water=shore,
        front=(_ridge(rng, kind, (0.8, 0.86), 0.05, 0.6, 0.0),),
        before=tuple(before),
        path=None,
    )


def _village(rng: Rng, aspect: float) -> Layout:
    back = [
        _ridge(rng, "far", (0.36, 0.44), 0.08, 1.0, 0.55),
        _ridge(rng, "middle", (0.5, 0.54), 0.04, 0.8, 0.22),
    ]
    behind = _birds(rng, aspect)
    if rng.random() < 0.6:
        behind.append(
            _thing(rng, "church", _between(rng, 0.25, 0.75) * aspect, 0.62, _between(rng, 0.36, 0.44), 0.08)
        )
    count = max(3, round(_between(rng, 3.5, 6) * aspect))
    for k in range(count):
        x = (k + _between(rng, 0.2, 0.8)) / count * aspect
        behind.append(_thing(rng, "house", x, _between(rng, 0.62, 0.68), _between(rng, 0.17, 0.24), 0.05))
    behind += _grove(rng, aspect, 3, (0.66, 0.72), (0.12, 0.2), 0.04)
    before = _grove(rng, aspect, int(rng.integers(0, 3)), (0.86, 0.98), (0.28, 0.4), 0.0)
    before += _people(rng, aspect, 0.5, (0.84, 0.94))
    path = (_between(rng, 0.3, 0.7) * aspect, 0.7)
    return Layout(
        sun=_sun(rng, aspect),
        back=tuple(back),
        behind=tuple(behind),
        water=None,
        front=(_ridge(rng, "near", (0.7, 0.73), 0.03, 0.7, 0.0),),
        before=tuple(before),
        path=path,
    )


def _mountains(rng: Rng, aspect: float) -> Layout:
    back = [
        _ridge(rng, "mountain", (0.3, 0.36), 0.2, 1.2, 0.5),
        _ridge(rng, "mountain", (0.46, 0.52), 0.14, 1.4, 0.24),
    ]
    water = _between(rng, 0.64, 0.68) if rng.random() < 0.4 else None
    foot = water or 0.7
    back.append(_ridge(rng, "middle", (foot - 0.06, foot - 0.03), 0.04, 0.9, 0.12))
    behind = _grove(rng, aspect, int(rng.integers(5, 11)), (foot - 0.02, foot), (0.08, 0.16), 0.1) + _birds(
        rng, aspect
    )
    if rng.random() < 0.35:
        behind.append(
            _thing(rng, "house", _between(rng, 0.2, 0.8) * aspect, foot, _between(rng, 0.12, 0.16), 0.04)
        )
    before = _grove(rng, aspect, int(rng.integers(1, 5)), (0.88, 1.0), (0.3, 0.5), 0.0)
    before += _people(rng, aspect, 0.25, (0.9, 0.96))
    crest = (0.84, 0.88) if water else (0.7, 0.75)
    return Layout(
        sun=_sun(rng, aspect),
        back=tuple(back),
        behind=tuple(behind),
        water=water,
        front=(_ridge(rng, "near", crest, 0.05, 0.7, 0.0),),
        before=tuple(before),
        path=None,
    )


def _forest(rng: Rng, aspect: float) -> Layout:
    back = [_ridge(rng, "far", (0.42, 0.5), 0.08, 1.0, 0.5)]
    behind = _grove(rng, aspect, int(rng.integers(10, 16)), (0.62, 0.68), (0.2, 0.32), 0.3)
    gap = _between(rng, 0.3, 0.7) * aspect
    before = [
        Thing(kind=t.kind, x=t.x, y=t.y, size=t.size, haze=t.haze, seed=t.seed)
        for t in _grove(rng, aspect, int(rng.integers(5, 9)), (0.74, 1.0), (0.42, 0.66), 0.0)
        if abs(t.x - gap) > 0.14
    ]
    before += _people(rng, 1.0, 0.5, (0.84, 0.92), (gap - 0.03, gap + 0.03))
    if rng.random() < 0.3:
        behind.append(_thing(rng, "house", gap, 0.7, _between(rng, 0.16, 0.2), 0.06))
    return Layout(
        sun=_sun(rng, aspect),
        back=tuple(back),
        behind=tuple(behind),
        water=None,
        front=(_ridge(rng, "near", (0.66, 0.7), 0.03, 0.7, 0.0),),
        before=tuple(before),
        path=(gap, 0.69),
    )


_PLACES: dict[str, Callable[[Rng, float], Layout]] = {
    "hills": _hills,
    "lake": _lake,
    "coast": _coast,
    "village": _village,
    "mountains": _mountains,
    "forest": _forest,
}
