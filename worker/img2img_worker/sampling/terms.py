"""Rewrites a plan's rows as a few terms each, so that executing it reads little memory.

A row over the whole history has a coefficient for every answer so far. But samplers continue from where they
are: a call's latent is a multiple of the latent before it plus the last few answers and noises. Only
multistep methods in sigma (LMS, PLMS) reach further back.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from img2img_worker.sampling.levels import Array

#: coefficients below this fraction of a row's largest one are rounding errors of float64
_NOTHING = 1e-11


@dataclass(frozen=True, kw_only=True, eq=False)
class Terms:
    """One row: ``before`` times the row before it, and `weights` times the history entries at `places`."""

    before: float
    #: [n] and [n]
    places: npt.NDArray[np.int64]
    weights: Array


def terms(rows: Array) -> tuple[Terms, ...]:
    """The fewest terms that make each of `rows` [M, D].

    >>> [second] = terms(np.array([[1.0, 0.5, 0.0], [0.5, 0.25, 0.5]]))[1:]
    >>> second.before, second.places.tolist(), second.weights.tolist()
    (0.5, [2], [0.5])
    """
    befores = [np.zeros(rows.shape[1]), *rows]  # one longer than `rows`
    return tuple(_row(row, before) for row, before in zip(rows, befores, strict=False))


def _row(row: Array, before: Array) -> Terms:
    # the factor that cancels all older entries of both rows can be read from the first entry of `before`
    (shared,) = np.nonzero(before)
    shares = [0.0, *(row[shared[:1]] / before[shared[:1]])]
    return min((_rest(row, before, share) for share in shares), key=lambda rest: len(rest.places))


def _rest(row: Array, before: Array, share: float) -> Terms:
    rest = row - share * before
    (places,) = np.nonzero(np.abs(rest) > _NOTHING * np.abs(row).max())
    return Terms(before=float(share), places=places, weights=rest[places])
