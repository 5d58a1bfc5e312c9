"""The tensors of one group of images in flight, and the step that advances all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from img2img_worker.engine.image import HISTORY, OUT, SKIP, TIMESTEP, Image
from img2img_worker.engine.rows import Rows
from img2img_worker.engine.transfer import sent
from img2img_worker.models.family import Branch, Cond, Family

Seats = Sequence[tuple[int, tuple[Branch, ...]]]


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
    calls: tuple[tuple[Tensor, Cond], ...]
    #: row of each slot's k-th branch, [S, P], and that branch's weight, 0 where it has no such branch
    rows: Tensor
    weights: Tensor
    n_rows: int
    n_padding: int

    def fits(self, branches: Seats) -> bool:
        return len(self.branches) == len(branches) and all(
            slot == other_slot and own is other
            for (slot, own), (other_slot, other) in zip(self.branches, branches, strict=True)
        )


class Batch:
    """Images that share model calls, a slot each.

    A slot's history is z0, its noises, and the model's answers so far. The input of a call is a linear
    combination of them, whatever the sampler (see `sampling.plan`), so that one product over the history
    serves all slots.

    With `apart`, that product is taken for each slot by itself, with its own length: so its bits do not
    depend on the neighbours.
    """

    def __init__(
        self, family: Family, latent_size: tuple[int, int], rows: Rows, counts: Counts, *, apart: bool
    ) -> None:
        self._family = family
        self._rows = rows
        self._counts = counts
        self._apart = apart
        self._images: dict[int, Image] = {}
        self._layout: _Layout | None = None
        shape = (family.latent_channels, *latent_size)
        #: float32 [S, D, C, h, w] and [S, 1, h, w]
        self._history = torch.zeros(0, 0, *shape, device=family.device)
        self._mask = torch.zeros(0, 1, *latent_size, device=family.device)

    def put(self, image: Image) -> None:
        """Gives `image` a slot, and its history into it."""
        if image.history is None:
            raise ValueError("an image without its first latent")
        slot = next(slot for slot in range(len(self._images) + 1) if slot not in self._images)
        self._reserve(slot + 1, image.depth)
        history = self._history[slot]
        # not only what is read: zero times a stale infinity would poison the product
        history.zero_()
        history[: image.filled].copy_(image.history)
        mask = image.render.mask
        self._mask[slot] = 1.0 if mask is None else self._sent(mask)
        self._images[slot] = image
        image.slot, image.history = slot, None

    def drop(self, image: Image, *, keep: bool = False) -> None:
        """Frees its slot; with `keep`, its history goes back to it, on the CPU."""
        slot = _slot(image)
        if keep:
            # a copy, on a CPU too: whoever gets the slot next overwrites it
            image.history = self._history[slot, : image.filled].to("cpu", copy=True)
        del self._images[slot]
        image.slot = None

    def step(self, images: Sequence[Image]) -> None:
        """One model call for each of `images`, all of them in one batch."""
        numbers = self._numbers(images)
        x = self._inputs(images, numbers[:, HISTORY:])
        answers = self._answers(images, x, numbers[:, TIMESTEP])
        denoised = self._blended(_each(numbers[:, SKIP]) * x + _each(numbers[:, OUT]) * answers, images)
        self._store(images, denoised)
        for image in images:
            image.call += 1

    def results(self, images: Sequence[Image]) -> Tensor:
        """The final latents of `images`, float32 [n, C, h, w]."""
        return torch.stack([self._result(image) for image in images])

    def estimate(self, image: Image) -> Tensor:
        """The final latent of `image` as its last model call has it, [C, h, w]; z0 before the first."""
        return self._history[_slot(image), image.filled - 1 if image.call else 0]

    def _numbers(self, images: Sequence[Image]) -> Tensor:
        """Timestep, skip, out and coefficients by slot, float32 [S, 3 + D]; 0 for who sits it out."""
        depth = max(image.depth for image in images)
        used = 1 + max(_slot(image) for image in images)
        numbers = np.zeros((used, HISTORY + depth), np.float32)
        for image in images:
            numbers[image.slot, : HISTORY + image.depth] = image.calls[image.call]
        return self._sent(numbers)

    def _inputs(self, images: Sequence[Image], coefficients: Tensor) -> Tensor:
        """What the model sees of each slot, [S, C, h, w]."""
        used, depth = coefficients.shape
        history = self._history[:used, :depth].flatten(2)
        if not self._apart:
            x = torch.bmm(coefficients[:, None], history)
        else:
            x = history.new_zeros(used, 1, history.shape[2])
            for image in images:
                slot = _slot(image)
                torch.mm(coefficients[slot, None, : image.depth], history[slot, : image.depth], out=x[slot])
        return x.view(used, *self._history.shape[2:])

    def _answers(self, images: Sequence[Image], x: Tensor, timesteps: Tensor) -> Tensor:
        """The model's guided answer for each slot, [S, C, h, w]."""
        layout = self._laid_out(images, x.shape[0])
        # indexed call by call: each call's input is a tensor of its own, laid out in memory like any other's
        answers = torch.cat(
            [self._family.predict(x[slots], timesteps[slots], cond) for slots, cond in layout.calls]
        )
        self._counts.steps += 1
        self._counts.calls += len(layout.calls)
        self._counts.rows += layout.n_rows
        self._counts.padding += layout.n_padding
        self._counts.image_steps += len(images)
        # one by one, not as a product: each term is rounded the same whatever the others are
        guided = _each(layout.weights[:, 0]) * answers[layout.rows[:, 0]]
        for branch in range(1, layout.rows.shape[1]):
            guided += _each(layout.weights[:, branch]) * answers[layout.rows[:, branch]]
        return guided

    def _blended(self, denoised: Tensor, images: Sequence[Image]) -> Tensor:
        """What the mask keeps comes from z0; chosen there, not multiplied, because 0·nan is nan."""
        if all(image.render.mask is None for image in images):
            return denoised
        used = denoised.shape[0]
        mask, z0 = self._mask[:used], self._history[:used, 0]
        return torch.where(mask == 0, z0, denoised * mask + z0 * (1 - mask))

    def _store(self, images: Sequence[Image], denoised: Tensor) -> None:
        """Appends each image's answer to its history."""
        places = np.array([(_slot(image), image.filled) for image in images])
        slots, positions = self._sent(places).unbind(1)
        self._history[slots, positions] = denoised[slots]

    def _result(self, image: Image) -> Tensor:
        slot = _slot(image)
        history = self._history[slot, : image.depth]
        coefficients = self._sent(image.plan.result.astype(np.float32))
        latent = (coefficients[None] @ history.flatten(1)).view(history.shape[1:])
        mask, z0 = self._mask[slot], history[0]
        return torch.where(mask == 0, z0, latent * mask + z0 * (1 - mask))

    def _laid_out(self, images: Sequence[Image], used: int) -> _Layout:
        """The rows of this step's calls; the last step's, if nothing has changed."""
        branches = [(_slot(image), image.branches[image.call]) for image in images]
        if self._layout is None or not self._layout.fits(branches):
            self._layout = self._lay_out(branches, used)
        return self._layout

    def _lay_out(self, branches: Seats, used: int) -> _Layout:
        most = max(len(own) for _, own in branches)
        rows = np.zeros((used, most), np.int64)
        weights = np.zeros((used, most), np.float32)
        seats = [[(slot, k, branch) for k, branch in enumerate(own)] for slot, own in branches]
        calls: list[tuple[Tensor, Cond]] = []
        n = n_padding = 0
        for call, padding in self._rows.calls(seats):
            for row, (slot, k, branch) in enumerate(call, n):
                rows[slot, k], weights[slot, k] = row, branch.weight
            call += call[:1] * padding
            n += len(call)
            n_padding += padding
            slots = self._sent(np.array([slot for slot, _, _ in call]))
            calls.append((slots, Cond.stack([branch.cond for _, _, branch in call])))
        for slot, own in branches:
            # terms of no weight repeat a row of the image's own, so that no nan of others gets in
            rows[slot, len(own) :] = rows[slot, 0]
        return _Layout(
            branches=branches,
            calls=tuple(calls),
            rows=self._sent(rows),
            weights=self._sent(weights),
            n_rows=n - n_padding,
            n_padding=n_padding,
        )

    def _reserve(self, slots: int, depth: int) -> None:
        """Makes room for so many slots and so long a history."""
        had_slots, had_depth = self._history.shape[:2]
        if slots <= had_slots and depth <= had_depth:
            return
        slots = had_slots if slots <= had_slots else max(slots, 2 * had_slots)
        history = self._history.new_zeros(slots, max(depth, had_depth), *self._history.shape[2:])
        history[:had_slots, :had_depth] = self._history
        mask = self._mask.new_ones(slots, *self._mask.shape[1:])
        mask[:had_slots] = self._mask
        self._history, self._mask = history, mask

    def _sent(self, array: NDArray[np.generic]) -> Tensor:
        """`array` on the device, without waiting for it."""
        return sent(torch.from_numpy(array), self._family.device)


def _slot(image: Image) -> int:
    if image.slot is None:
        raise ValueError("an image that is not in flight")
    return image.slot


def _each(per_slot: Tensor) -> Tensor:
    """[S] to [S, 1, 1, 1]."""
    return per_slot[:, None, None, None]
