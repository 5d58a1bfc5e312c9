"""One model call: the images' rows in it, their places, and the sums of their answers."""

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

#: copies an array to the device without waiting for it
Send = Callable[[NDArray[Any]], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Some rows of one image's call."""

    image: RenderState
    #: all rows of the image's call; the part is those from `start` to `stop`
    rows: CallRows
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether these are all rows of the image's call."""
        return len(self) == len(self.rows.rows)

    def is_like(self, other: Self) -> bool:
        """Whether the other part is the same rows of the same call."""
        same = self.image is other.image and self.rows is other.rows
        return same and self.start == other.start and self.stop == other.stop


@dataclass(frozen=True, kw_only=True)
class Sums:
    """How the answers of some images' rows add up to the images' guided answers."""

    #: the images' slots [n]
    slots: Tensor
    #: whether these are the first n slots, in order
    are_first: bool
    #: the images' rows in the call, one image after the other [m]
    rows: Tensor
    #: the rows' weights [m]
    weights: Tensor
    #: where each image's rows begin in `rows` [n]
    starts: Tensor

    @classmethod
    def of(cls, images: Sequence[RenderState], rows: Sequence[Sequence[int]], send: Send) -> Self:
        """The sums of `images`, whose answers are in these rows of the call."""
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
        """The images' entries [n, ...] of `tensor` [S, ...]; a view where that is possible."""
        return tensor[: len(self.slots)] if self.are_first else tensor.index_select(0, self.slots)

    def guided(self, answers: Tensor) -> Tensor:
        """The images' guided answers [n, C, h, w] from the rows' answers [R, C, h, w]."""
        return weighted_sums(answers, self.rows, self.weights, self.starts)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A model call's arguments on the device, valid until an image joins, leaves, or has other rows."""

    parts: Sequence[Part]
    padding: int
    #: each row's slot, [R], padding included
    slots: Tensor
    conditions: Conditions
    #: the places of each part's rows in the call
    places: Sequence[Sequence[int]]
    #: None: some image has only a part of its rows in the call
    sums: Sums | None

    @classmethod
    def of(cls, parts: Sequence[Part], padding: int, send: Send) -> Self:
        """Lay out a call of these rows, with contexts of equal length side by side."""
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

    def has(self, image: RenderState) -> bool:
        """Whether some of its rows are in it."""
        return any(part.image is image for part in self.parts)

    def fits(self, parts: Sequence[Part], padding: int) -> bool:
        """Whether it is the layout of a call of these rows."""
        return (
            self.padding == padding
            and len(self.parts) == len(parts)
            and all(own.is_like(other) for own, other in zip(self.parts, parts, strict=True))
        )


def collect_answers(images: Sequence[RenderState], send: Send) -> tuple[Sums, Tensor]:
    """The answers of `images` from several calls in one tensor [R, C, h, w], and how they add up."""
    sources = {id(answers): answers for image in images for answers, _ in image.answers}
    starts = dict(zip(sources, accumulate(map(len, sources.values()), initial=0), strict=False))
    rows = [[starts[id(answers)] + row for answers, row in image.answers] for image in images]
    return Sums.of(images, rows, send), torch.cat(list(sources.values()))


def slot_of(image: RenderState) -> int:
    """The slot of an image that is in flight."""
    if image.slot is None:
        raise ValueError("an image that is not in flight")
    return image.slot


def weighted_sums(latents: Tensor, entries: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    """Weighted sums of `latents` [N, C, h, w] at `entries` [n]: one from each of `starts` [S] to the next.

    Each sum is added up by itself and in order, so its bits do not depend on the others.

    Returns:
        [S, C, h, w].
    """
    sums = F.embedding_bag(entries, latents.flatten(1), starts, mode="sum", per_sample_weights=weights)
    return sums.view(-1, *latents.shape[1:])
