"""The tensors of one group of images in flight, and the step that advances all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from img2img_worker.engine.packer import BatchPacker
from img2img_worker.engine.state import Z0, RenderState, X
from img2img_worker.engine.transfer import sent
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.family import Family, GuidanceRow

Seats = Sequence[tuple[int, tuple[GuidanceRow, ...]]]
#: an image's slot, number and content of one of its rows
Seat = tuple[int, int, GuidanceRow]


#: what a mask blends: what the model sees, or its answers
INPUT, ANSWER = range(2)


@dataclass(kw_only=True)
class Counts:
    """What the engine has done so far."""

    #: steps of a group
    steps: int = 0
    #: model calls; as many as steps unless rows are fixed
    calls: int = 0
    #: rows of these calls that were some image's, and that were padding
    rows: int = 0
    padding: int = 0
    #: steps of single images
    image_steps: int = 0


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Who sits where in a step's model calls; it stays until an image joins, leaves or changes branches."""

    #: each image's slot and rows
    branches: Seats
    #: each call's slot by row, [R], padding included, and what the rows are conditioned on
    calls: tuple[tuple[Tensor, Conditions], ...]
    #: each slot's guided answer: rows and their weights [n], and where each slot's begin [S]
    rows: Tensor
    weights: Tensor
    starts: Tensor
    n_rows: int
    n_padding: int

    def fits(self, branches: Seats) -> bool:
        return len(self.branches) == len(branches) and all(
            slot == other_slot and own is other
            for (slot, own), (other_slot, other) in zip(self.branches, branches, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What the device is told of one step, by slot; S slots up to the last one in use."""

    #: float32 [S]
    timesteps: Tensor
    skip: Tensor
    seen: Tensor
    out: Tensor
    #: entries of the history and how much of each is in x, [n], and where each slot's begin, [S]
    entries: Tensor
    weights: Tensor
    starts: Tensor
    #: the slots that take part, and the entries where their x and answer go, [images]
    slots: Tensor
    x_entries: Tensor
    answer_entries: Tensor


class Batch:
    """Images that share model calls, a slot each.

    A slot's history is the x of its last call, z0, its noises, and the model's answers so far. The input
    of a call is a sum of a few of them, whatever the sampler (see `sampling.terms`), so one weighted
    gathering serves all slots. It adds each slot's terms by themselves and in order: their bits do not
    depend on the neighbours.
    """

    def __init__(
        self, family: Family, latent_size: tuple[int, int], rows: BatchPacker, counts: Counts
    ) -> None:
        self._family = family
        self._rows = rows
        self._counts = counts
        self._images: dict[int, RenderState] = {}
        self._layout: _Layout | None = None
        shape = (family.latent_channels, *latent_size)
        #: float32 [S, D, C, h, w] and, of what the model sees and of its answers, [S, 2, 1, h, w]
        self._history = torch.zeros(0, 0, *shape, device=family.device)
        self._masks = torch.zeros(0, 2, 1, *latent_size, device=family.device)

    def put(self, image: RenderState) -> None:
        """Gives `image` a slot, and its history into it."""
        if image.history is None:
            raise ValueError("an image without its first latent")
        slot = next(slot for slot in range(len(self._images) + 1) if slot not in self._images)
        self._reserve(slot + 1, image.depth)
        self._history[slot, : image.filled].copy_(image.history)
        self._masks[slot] = 1.0
        if image.render.mask is not None:
            self._masks[slot, INPUT if image.plan.blends_input else ANSWER] = self._sent(image.render.mask)
        self._images[slot] = image
        image.slot, image.history = slot, None

    def drop(self, image: RenderState, *, keep: bool = False) -> None:
        """Frees its slot; with `keep`, its history goes back to it, on the CPU."""
        slot = _slot(image)
        if keep:
            # a copy, on a CPU too: whoever gets the slot next overwrites it
            image.history = self._history[slot, : image.filled].to("cpu", copy=True)
        del self._images[slot]
        image.slot = None

    def step(self, images: Sequence[RenderState]) -> None:
        """One model call for each of `images`, all of them in one batch."""
        images = sorted(images, key=_slot)
        step = self._told(images)
        x = _summed(self._history.flatten(0, 1), step.entries, step.weights, step.starts)
        seen = self._blended(x, INPUT, images)
        guided = self._answers(images, seen, step.timesteps)
        denoised = (_each(step.skip) * x).add_(_each(step.seen) * seen).add_(guided.mul_(_each(step.out)))
        self._store(step, x, self._blended(denoised, ANSWER, images))
        for image in images:
            image.call += 1

    def results(self, images: Sequence[RenderState]) -> Tensor:
        """The final latents of `images`, float32 [n, C, h, w], or as far as they are if they end early."""
        return torch.stack([self._result(image) for image in images])

    def estimate(self, image: RenderState) -> Tensor:
        """The final latent of `image` as its last model call has it, [C, h, w]; z0 before the first."""
        return self._history[_slot(image), image.filled - 1 if image.call else Z0]

    def _told(self, images: Sequence[RenderState]) -> _Step:
        used = 1 + _slot(images[-1])
        depth = self._history.shape[1]
        slots = np.array([_slot(image) for image in images])
        calls = [image.calls[image.call] for image in images]
        lengths = np.zeros(used, np.int64)
        lengths[slots] = [len(call.places) for call in calls]
        entries = [call.places + slot * depth for call, slot in zip(calls, slots, strict=True)]
        answers = slots * depth + [image.filled for image in images]
        whole = [*entries, np.cumsum(lengths) - lengths, slots, slots * depth + X, answers]
        numbers = np.zeros((4, used), np.float32)
        numbers[:, slots] = np.array([(call.timestep, call.skip, call.seen, call.out) for call in calls]).T
        weights = [call.weights for call in calls]
        # two arrays for all of it: each costs a copy to the device
        integers = self._sent(np.concatenate(whole))
        floats = self._sent(np.concatenate([*numbers, *weights]))
        n = int(lengths.sum())
        timesteps, skip, seen, out, shares = torch.split(floats, [used, used, used, used, n])
        places = torch.split(integers, [n, used, len(images), len(images), len(images)])
        return _Step(
            timesteps=timesteps,
            skip=skip,
            seen=seen,
            out=out,
            entries=places[0],
            weights=shares,
            starts=places[1],
            slots=places[2],
            x_entries=places[3],
            answer_entries=places[4],
        )

    def _answers(self, images: Sequence[RenderState], x: Tensor, timesteps: Tensor) -> Tensor:
        """The model's guided answer for each slot, [S, C, h, w]."""
        layout = self._laid_out(images, x.shape[0])
        # indexed call by call: each call's input is a tensor of its own, laid out in memory like any other's
        answers = [
            self._family.predict(x.index_select(0, slots), timesteps[slots], conditions)
            for slots, conditions in layout.calls
        ]
        self._counts.steps += 1
        self._counts.calls += len(layout.calls)
        self._counts.rows += layout.n_rows
        self._counts.padding += layout.n_padding
        self._counts.image_steps += len(images)
        return _summed(
            torch.cat(answers) if len(answers) > 1 else answers[0], layout.rows, layout.weights, layout.starts
        )

    def _blended(self, latents: Tensor, which: int, images: Sequence[RenderState]) -> Tensor:
        """What the mask keeps comes from z0; chosen there, not multiplied, because 0·nan is nan."""
        if not any(_is_masked(image, which) for image in images):
            return latents
        used = latents.shape[0]
        return _laid_over(latents, self._masks[:used, which], self._history[:used, Z0])

    def _store(self, step: _Step, x: Tensor, denoised: Tensor) -> None:
        """Keeps x and the answer of each slot that took part; not before, so that a step can be repeated."""
        history = self._history.flatten(0, 1)
        for entries, latents in ((step.x_entries, x), (step.answer_entries, denoised)):
            history.index_copy_(0, entries, latents if len(entries) == len(x) else latents[step.slots])

    def _result(self, image: RenderState) -> Tensor:
        slot = _slot(image)
        history = self._history[slot, Z0 : image.depth]
        if image.call < len(image.calls):
            latent = self.estimate(image)
        else:
            coefficients = self._sent(image.plan.result.astype(np.float32))
            latent = (coefficients[None] @ history.flatten(1)).view(history.shape[1:])
        return _laid_over(latent, self._masks[slot].amin(0), history[0])

    def _laid_out(self, images: Sequence[RenderState], used: int) -> _Layout:
        """The rows of this step's calls; the last step's, if nothing has changed."""
        branches = [(_slot(image), image.branches[image.call]) for image in images]
        if self._layout is None or not self._layout.fits(branches):
            self._layout = self._lay_out(branches, used)
        return self._layout

    def _lay_out(self, branches: Seats, used: int) -> _Layout:
        row_of: dict[tuple[int, int], int] = {}
        seats = [[(slot, k, branch) for k, branch in enumerate(own)] for slot, own in branches]
        calls: list[tuple[Tensor, Conditions]] = []
        n = n_padding = 0
        for call, padding in self._calls(seats):
            row_of |= {(slot, k): row for row, (slot, k, _) in enumerate(call, n)}
            call += call[-1:] * padding
            n += len(call)
            n_padding += padding
            slots = self._sent(np.array([slot for slot, _, _ in call]))
            rows = [branch.condition for _, _, branch in call]
            calls.append((slots, Conditions.stack(rows, whole=self._rows.is_fixed)))
        flat = [each for seat in seats for each in seat]
        lengths = np.zeros(used, np.int64)
        lengths[[slot for slot, _ in branches]] = [len(own) for _, own in branches]
        return _Layout(
            branches=branches,
            calls=tuple(calls),
            rows=self._sent(np.array([row_of[slot, k] for slot, k, _ in flat])),
            weights=self._sent(np.array([branch.weight for _, _, branch in flat], np.float32)),
            starts=self._sent(np.cumsum(lengths) - lengths),
            n_rows=n - n_padding,
            n_padding=n_padding,
        )

    def _calls(self, seats: Sequence[Sequence[Seat]]) -> Iterator[tuple[list[Seat], int]]:
        """The rows of each call, those of equal context length side by side, and how many are to be added."""
        for key in dict.fromkeys(row.condition.shares for seat in seats for _, _, row in seat):
            sharing = [[each for each in seat if each[2].condition.shares == key] for seat in seats]
            for call, padding in self._rows.calls([seat for seat in sharing if seat]):
                yield sorted(call, key=lambda each: each[2].condition.length), padding

    def _reserve(self, slots: int, depth: int) -> None:
        """Makes room for so many slots and so long a history."""
        had_slots, had_depth = self._history.shape[:2]
        if slots <= had_slots and depth <= had_depth:
            return
        slots = had_slots if slots <= had_slots else max(slots, 2 * had_slots)
        history = self._history.new_empty(slots, max(depth, had_depth), *self._history.shape[2:])
        history[:had_slots, :had_depth] = self._history
        masks = self._masks.new_ones(slots, *self._masks.shape[1:])
        masks[:had_slots] = self._masks
        self._history, self._masks = history, masks

    def _sent(self, array: NDArray[np.generic]) -> Tensor:
        """`array` on the device, without waiting for it."""
        return sent(torch.from_numpy(array), self._family.device)


def _slot(image: RenderState) -> int:
    if image.slot is None:
        raise ValueError("an image that is not in flight")
    return image.slot


def _is_masked(image: RenderState, which: int) -> bool:
    return image.render.mask is not None and which == (INPUT if image.plan.blends_input else ANSWER)


def _laid_over(latents: Tensor, mask: Tensor, z0: Tensor) -> Tensor:
    return torch.where(mask == 0, z0, latents * mask + z0 * (1 - mask))


def _each(per_slot: Tensor) -> Tensor:
    """[S] to [S, 1, 1, 1]."""
    return per_slot[:, None, None, None]


def _summed(latents: Tensor, entries: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    """Weighted sums of `latents` [N, C, h, w] at `entries` [n], one from each of `starts` [S] to the next."""
    sums = F.embedding_bag(entries, latents.flatten(1), starts, mode="sum", per_sample_weights=weights)
    return sums.view(-1, *latents.shape[1:])
