"""The tensors of the images in flight with one latent shape, and the model calls that advance them."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from img2img_shared.samplers import SAMPLERS
from img2img_worker.engine.course import Z0, Call, X
from img2img_worker.engine.model_call import Layout, Part, Sums, collect_answers, slot_of, weighted_sums
from img2img_worker.engine.soft_blend import soft_blend, soft_exponent
from img2img_worker.engine.state import Answer, RenderState
from img2img_worker.models.transfer import to_device, to_host

#: what an image's mask is blended into: what the model sees, or its answers
INPUT, ANSWER = range(2)


class Batch:
    """Images whose latents have one `shape` [C, h, w], each in a slot.

    An image's course says what its slot's history holds (see `engine.course`). The latent for a model call is
    a weighted sum of a few entries of the history, so one gather serves all slots. It adds each slot's terms
    by themselves and in order, so their bits do not depend on the neighbours.

    An image's call has three parts: its latent is made (`begin`), its rows are answered by one or several
    model calls (`call`), and their weighted sum is its answer.
    """

    def __init__(self, shape: tuple[int, int, int], device: torch.device) -> None:
        self._device = device
        self._images: dict[int, RenderState] = {}
        #: by kind of call; an image is in one of each kind, the last
        self._layouts: dict[Hashable, tuple[Layout, ...]] = {}
        #: float32 [S, D, C, h, w]
        self._history = torch.zeros(0, 0, *shape, device=device)
        #: masks of what the model sees, and of its answers, [S, 2, 1, h, w]
        self._masks = torch.zeros(0, 2, 1, *shape[1:], device=device)
        #: contrasts of soft inpainting for the same two, [S, 2]; 0: not soft
        self._contrasts = torch.zeros(0, 2, device=device)
        #: latents of the calls under way [S, C, h, w]
        self._latents = torch.zeros(0, *shape, device=device)
        #: their timestep, skip, seen, out, and the exponent of a soft mask [S, 5]
        self._numbers = torch.zeros(0, 5, device=device)
        #: the entries of the history where their answers go [S]
        self._answers = torch.zeros(0, dtype=torch.int64, device=device)

    def __bool__(self) -> bool:
        """Whether it has any image."""
        return bool(self._images)

    def put(self, image: RenderState) -> None:
        """Give `image` a slot, and copy its history there."""
        if image.history is None:
            raise ValueError("an image without its first latent")
        slot = next(slot for slot in range(len(self._images) + 1) if slot not in self._images)
        self._reserve(slot + 1, image.course.depth)
        self._history[slot, : len(image.history)].copy_(image.history, non_blocking=True)
        self._masks[slot], self._contrasts[slot] = 1.0, 0.0
        if image.render.mask is not None:
            self._masks[slot, _blend_point(image)] = self._send(image.render.mask)
            if _is_soft(image):
                self._contrasts[slot, _blend_point(image)] = image.render.params.inpaint_detail_preservation
        self._images[slot] = image
        image.slot, image.history = slot, None

    def drop(self, image: RenderState, *, keep: bool = False) -> None:
        """Free an image's slot; with `keep`, the image gets its history back, on its way to the CPU."""
        slot = slot_of(image)
        if keep:
            # a copy, on a CPU too: the next image in the slot overwrites the history
            image.history = to_host(self._history[slot, : image.course.depth])
        del self._images[slot]
        self._layouts = {
            kind: kept
            for kind, layouts in self._layouts.items()
            if (kept := tuple(each for each in layouts if not each.has(image)))
        }
        image.slot, image.has_begun = None, False
        image.answers = []

    def begin(self, images: Sequence[RenderState]) -> None:
        """Make the latents of the images' calls, where they are not made yet."""
        images = [image for image in images if not image.has_begun]
        if not images:
            return
        depth = self._history.shape[1]
        slots = np.array([slot_of(image) for image in images])
        calls = [_call(image) for image in images]
        lengths = np.array([len(call.places) for call in calls])
        entries = [call.places + slot * depth for call, slot in zip(calls, slots, strict=True)]
        answers = np.array([image.course.answer for image in images])
        numbers = np.array([_numbers(image) for image in images], np.float32)
        # two arrays for everything, since each costs a copy to the device
        integers = self._send(np.concatenate([*entries, np.cumsum(lengths) - lengths, slots, answers]))
        floats = self._send(np.concatenate([*(call.weights for call in calls), numbers.ravel()]))
        n, n_terms = len(images), int(lengths.sum())
        terms, starts, at, answers_at = torch.split(integers, [n_terms, n, n, n])
        weights, flat_numbers = torch.split(floats, [n_terms, 5 * n])
        latents = weighted_sums(self._history.flatten(0, 1), terms, weights, starts)
        for kept, given in (
            (self._latents, latents),
            (self._numbers, flat_numbers.view(n, 5)),
            (self._answers, answers_at),
        ):
            kept.index_copy_(0, at, given)
        for image in images:
            image.has_begun = True

    def call(self, parts: Sequence[Part], padding: int) -> list[RenderState]:
        """Make one model call for all of `parts`, whose images have begun and whose rows may share a call.

        Args:
            padding: how many rows to add that fill up the call.

        Returns:
            the images of which all rows are answered now.
        """
        layout = self._layout(parts, padding)
        return self._take(layout, self._predict(layout))

    def try_sharing(self, parts: Sequence[Part]) -> tuple[list[RenderState], list[bool | None]]:
        """As `call`, but with a model call for each part; one more for all parts is only compared with them.

        Returns:
            also, for each part, whether all bits are the same; None: it is not finite, so this says nothing.
        """
        layout = self._layout(parts, 0)
        together = self._predict(layout)
        apart = torch.empty_like(together)
        exact: list[bool | None] = []
        for part, places in zip(parts, map(list, layout.places), strict=True):
            alone = Layout.of([part], 0, self._send)
            own = apart[places] = self._predict(alone)[list(alone.places[0])]
            exact.append(torch.equal(together[places], own) if own.isfinite().all() else None)
        return self._take(layout, apart), exact

    def _predict(self, layout: Layout) -> Tensor:
        """The model's answers for all rows, [R, C, h, w]."""
        images = [part.image for part in layout.parts]
        # indexed even where all slots take part, so that each call's input has the same memory layout
        seen = self._blend_input(self._latents.index_select(0, layout.slots), layout.slots, images)
        timesteps = self._numbers[:, 0].index_select(0, layout.slots)
        return layout.parts[0].rows.family.predict(seen, timesteps, layout.conditions)

    def _take(self, layout: Layout, answers: Tensor) -> list[RenderState]:
        """Hand out the answers of a call. Returns the images of which all rows are answered now."""
        parts, images = layout.parts, [part.image for part in layout.parts]
        if layout.sums is not None:
            self._answer(images, layout.sums, answers)
            return images
        for part, places in zip(parts, layout.places, strict=True):
            part.image.answers += [Answer(answers, row) for row in places]
        complete = [part.image for part in parts if not part.image.n_wanted]
        if complete:
            self._answer(complete, *collect_answers(complete, self._send))
        return complete

    def advance(self, image: RenderState) -> None:
        """Bring `image`, whose call is answered, to its next call, or to its end."""
        image.has_begun = False
        image.course.advance(self._history[slot_of(image), : image.course.depth])
        image.ask()

    def results(self, images: Sequence[RenderState]) -> Tensor:
        """The final latents of `images`, float32 [n, C, h, w]; of those that end early, the present ones."""
        return torch.stack([self._result(image) for image in images])

    def estimate(self, image: RenderState) -> Tensor:
        """The final latent [C, h, w] of `image` as its last model call predicts it; before any call, z0."""
        if image.overflowed is not None:
            return image.overflowed
        return self._history[slot_of(image), image.course.latest]

    def _blend_input(self, latents: Tensor, slots: Tensor, images: Sequence[RenderState]) -> Tensor:
        """Latents [n, C, h, w] of `slots` as the model sees them: with z0 where a mask keeps the picture."""
        return self._blend(latents, INPUT, slots, images)

    def _answer(self, images: Sequence[RenderState], sums: Sums, answers: Tensor) -> None:
        """Store the sums of the rows' `answers`. Nothing is stored before this, so a call can be repeated."""
        slots, x = sums.slots, sums.at_slots(self._latents)
        seen = self._blend_input(x, slots, images)
        skip, seen_share, out = (
            each[:, None, None, None] for each in sums.at_slots(self._numbers)[:, 1:4].unbind(1)
        )
        denoised = sums.guided(answers).mul_(out)
        if seen is x:
            denoised.addcmul_(x, skip + seen_share)
        else:
            denoised.addcmul_(x, skip).addcmul_(seen, seen_share)
        denoised = self._blend(denoised, ANSWER, slots, images)
        history, first = self._history.flatten(0, 1), slots * self._history.shape[1]
        history.index_copy_(0, first + X, x)
        history.index_copy_(0, first + sums.at_slots(self._answers), denoised)

    def _blend(self, latents: Tensor, which: int, slots: Tensor, images: Sequence[RenderState]) -> Tensor:
        """Put z0 where masks that blend at this point keep it, into latents [n, C, h, w] of `slots`."""
        blended = [
            image for image in images if image.render.mask is not None and _blend_point(image) == which
        ]
        if not blended:
            return latents
        masks = self._masks[:, which].index_select(0, slots)
        z0 = self._history[:, Z0].index_select(0, slots)
        hard = _blend_hard(latents, masks, z0)
        if not any(_is_soft(image) for image in blended):
            return hard
        contrasts = self._contrasts[:, which].index_select(0, slots)
        soft = soft_blend(latents, z0, masks, self._numbers[:, 4].index_select(0, slots), contrasts)
        return torch.where(contrasts[:, None, None, None] > 0, soft, hard)

    def _result(self, image: RenderState) -> Tensor:
        if image.overflowed is not None:
            return image.overflowed
        slot = slot_of(image)
        history = self._history[slot, Z0 : image.course.depth]
        if image.course.call is not None:
            latent = self.estimate(image)
        else:
            coefficients = self._send(image.course.result)
            latent = (coefficients[None] @ history.flatten(1)).view(history.shape[1:])
        return latent if _is_soft(image) else _blend_hard(latent, self._masks[slot].amin(0), history[0])

    def _layout(self, parts: Sequence[Part], padding: int) -> Layout:
        """The layout of a call of these parts: that of their last one, if nothing has changed."""
        kind = parts[0].rows.kind(parts[0].start)
        layouts = self._layouts.get(kind, ())
        for layout in layouts:
            if layout.fits(parts, padding):
                return layout
        layout = Layout.of(parts, padding, self._send)
        others = (each for each in layouts if not any(each.has(part.image) for part in parts))
        self._layouts[kind] = *others, layout
        return layout

    def _reserve(self, slots: int, depth: int) -> None:
        """Make room for a number of slots, with histories of a length."""
        had_slots, had_depth = self._history.shape[:2]
        if slots <= had_slots and depth <= had_depth:
            return
        slots = had_slots if slots <= had_slots else max(slots, 2 * had_slots)
        history = self._history.new_empty(slots, max(depth, had_depth), *self._history.shape[2:])
        history[:had_slots, :had_depth] = self._history
        self._history = history
        self._masks, self._contrasts, self._latents, self._numbers, self._answers = (
            _grow(each, slots)
            for each in (self._masks, self._contrasts, self._latents, self._numbers, self._answers)
        )

    def _send(self, array: NDArray[np.generic]) -> Tensor:
        """`array` on the device, without waiting for it."""
        return to_device(torch.from_numpy(array), self._device)


def _grow(tensor: Tensor, length: int) -> Tensor:
    grown = tensor.new_zeros(length, *tensor.shape[1:])
    grown[: len(tensor)] = tensor
    return grown


def _call(image: RenderState) -> Call:
    if image.course.call is None:
        raise ValueError("an image that is finished")
    return image.course.call


def _numbers(image: RenderState) -> tuple[float, ...]:
    """An image's row of `Batch._numbers`."""
    call, params = _call(image), image.render.params
    # to A1111's script, samplers like DDIM pass their timestep in sigma's place
    level = call.timestep if SAMPLERS[params.sampler_name].timesteps else call.sigma
    exponent = soft_exponent(level, params.mask_blend_power, params.mask_blend_scale)
    return call.timestep, call.skip, call.seen, call.out, exponent


def _blend_point(image: RenderState) -> int:
    return INPUT if image.course.blends_input else ANSWER


def _is_soft(image: RenderState) -> bool:
    return image.render.mask is not None and image.render.params.soft_inpainting


def _blend_hard(latents: Tensor, mask: Tensor, z0: Tensor) -> Tensor:
    """`latents` where `mask` is 1, and `z0` where it is 0; selected there, since 0·nan is nan."""
    return torch.where(mask == 0, z0, latents * mask + z0 * (1 - mask))
