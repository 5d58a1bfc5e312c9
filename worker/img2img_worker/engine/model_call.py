"""One model call: whose rows are in it, where, and how their answers add up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from img2img_worker.engine.guidance_rows import CallRows
from img2img_worker.engine.state import RenderState
from img2img_worker.models.families.condition import Conditions

#: an array on the device, without waiting for it
Send = Callable[[NDArray[Any]], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Some rows of one image, for a model call."""

    image: RenderState
    #: all of its call's, and which of them
    rows: CallRows
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether these are all."""
        return len(self) == len(self.rows.rows)

    def is_like(self, other: Self) -> bool:
        """Whether a call has the same to do with it."""
        same = self.image is other.image and self.rows is other.rows
        return same and self.start == other.start and self.stop == other.stop


@dataclass(frozen=True, kw_only=True)
class Sums:
    """How the answers of some images' rows add up to their guided ones."""

    #: the images' slots [n], and whether these are the first n, in order
    slots: Tensor
    are_first: bool
    #: rows of the answers and their weights [m], and where each image's begin [n]
    rows: Tensor
    weights: Tensor
    starts: Tensor

    @classmethod
    def of(cls, images: Sequence[RenderState], rows: Sequence[Sequence[int]], send: Send) -> Self:
        """Those of `images`, whose answers are in `rows`."""
        slots = np.array([slot_of(image) for image in images])
        lengths = np.array([len(own) for own in rows])
        weights = [row.weight for image in images if image.rows is not None for row in image.rows.rows]
        return cls(
            slots=send(slots),
            are_first=np.array_equal(slots, np.arange(len(slots))),
            rows=send(np.concatenate([*rows]).astype(np.int64)),
            weights=send(np.array(weights, np.float32)),
            starts=send(np.cumsum(lengths) - lengths),
        )

    def at_slots(self, tensor: Tensor) -> Tensor:
        """The slots' entries of `tensor` [S, ...], which is copied only if it must be."""
        return tensor[: len(self.slots)] if self.are_first else tensor.index_select(0, self.slots)

    def guided(self, answers: Tensor) -> Tensor:
        """[n, C, h, w] of the rows' answers [R, C, h, w]."""
        return weighted_sums(answers, self.rows, self.weights, self.starts)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A model call as the device is told of it; it stays until an image joins, leaves, or has other rows."""

    parts: Sequence[Part]
    padding: int
    #: each row's slot, [R], padding included
    slots: Tensor
    conditions: Conditions
    #: where each part's rows are
    places: Sequence[Sequence[int]]
    #: where all rows of each image are in it
    sums: Sums | None

    @classmethod
    def of(cls, parts: Sequence[Part], padding: int, send: Send) -> Self:
        """A call of these rows, those of equal length side by side."""
        rows = [
            (which, row) for which, part in enumerate(parts) for row in part.rows.rows[part.start : part.stop]
        ]
        order = sorted(range(len(rows)), key=lambda number: rows[number][1].condition.length)
        place = dict(zip(order, range(len(order)), strict=True))
        firsts = accumulate((len(part) for part in parts), initial=0)
        places = [
            [place[first + k] for k in range(len(part))] for first, part in zip(firsts, parts, strict=False)
        ]
        order += order[-1:] * padding
        images = [part.image for part in parts]
        return cls(
            parts=parts,
            padding=padding,
            slots=send(np.array([slot_of(images[rows[number][0]]) for number in order])),
            conditions=Conditions.stack([rows[number][1].condition for number in order]),
            places=places,
            sums=Sums.of(images, places, send) if all(part.is_whole for part in parts) else None,
        )

    def fits(self, parts: Sequence[Part], padding: int) -> bool:
        """Whether it is a call of these rows."""
        return (
            self.padding == padding
            and len(self.parts) == len(parts)
            and all(own.is_like(other) for own, other in zip(self.parts, parts, strict=True))
        )


def collect_answers(images: Sequence[RenderState], send: Send) -> tuple[Sums, Tensor]:
    """The answers of `images` that several calls gave, put together, and how they add up."""
    sources = {id(answers): answers for image in images for answers, _ in image.answers}
    starts = dict(zip(sources, accumulate(map(len, sources.values()), initial=0), strict=False))
    rows = [[starts[id(answers)] + row for answers, row in image.answers] for image in images]
    return Sums.of(images, rows, send), torch.cat(list(sources.values()))


def slot_of(image: RenderState) -> int:
    """Where an image that is in flight lies."""
    if image.slot is None:
        raise ValueError("an image that is not in flight")
    return image.slot


def weighted_sums(latents: Tensor, entries: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    """Weighted sums of `latents` [N, C, h, w] at `entries` [n], one from each of `starts` [S] to the next.

    Each is added by itself and in order: its bits do not depend on the others.
    """
    sums = F.embedding_bag(entries, latents.flatten(1), starts, mode="sum", per_sample_weights=weights)
    return sums.view(-1, *latents.shape[1:])
