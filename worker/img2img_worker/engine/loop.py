"""The engine's work: images join, the model answers rows, finished ones leave. One thread's affair."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from math import inf

import torch
from torch import Tensor

from img2img_worker.engine.batch import Batch
from img2img_worker.engine.condition_builder import ConditionBuilder
from img2img_worker.engine.counts import Counts
from img2img_worker.engine.decoding import Decoding, at_once
from img2img_worker.engine.delivery import LATENT, PICTURE, SOUND, Delivery, Pace
from img2img_worker.engine.exact_sharing import ExactSharing
from img2img_worker.engine.latents import Latents
from img2img_worker.engine.model_call import Part
from img2img_worker.engine.packer import BatchPacker
from img2img_worker.engine.prompt_encoder import PromptEncoder
from img2img_worker.engine.render import Pixels
from img2img_worker.engine.scheduler import Scheduler
from img2img_worker.engine.side_stream import SideStream
from img2img_worker.engine.state import RenderState
from img2img_worker.engine.switching import Switching
from img2img_worker.engine.turns import Turns
from img2img_worker.models.steps import Steps

log = logging.getLogger(__name__)

#: steps of decoding between two model calls, at most: a device does not say how long they take
DECODING_STEPS = 6

Work = Callable[[Sequence[RenderState]], None]
#: told after memory was short: slots for a while, and images that left them
OnOutOfMemory = Callable[[int, int], None]


class EngineLoop:
    """Images in flight, and what is done with them turn by turn.

    Args:
        slots: images in flight, at most.
        pictures: how many the VAE sees at a time, always; None: as many as there are.
        sharing: what may be shared where rows are to keep their bits; None: all that can be.
        drop_idle: forgets checkpoints that no image uses.
        take_again: has `take` called in the engine's thread, by whichever thread calls it; raises
            `Unavailable` where the engine is closed.
    """

    def __init__(
        self,
        device: torch.device,
        slots: int,
        packer: BatchPacker,
        *,
        pictures: int | None,
        sharing: ExactSharing | None,
        drop_idle: Callable[[], None],
        take_again: Callable[[RenderState], None],
        on_out_of_memory: OnOutOfMemory,
    ) -> None:
        self._device = device
        self._packer = packer
        self._pictures = pictures
        self._sharing = sharing
        self._drop_idle = drop_idle
        self._take_again = take_again
        self._on_out_of_memory = on_out_of_memory
        self._slots: Scheduler[RenderState] = Scheduler(slots, lambda image: image.priority)
        #: by the shape of a latent
        self._batches: dict[tuple[int, int, int], Batch] = {}
        #: where pictures are encoded, and where they are decoded
        self._before, self._after = SideStream(device), SideStream(device)
        self._latents = Latents(pictures, self._before)
        self._conditions = ConditionBuilder(pictures, self._before)
        self._turns = Turns()
        self._prompts = PromptEncoder(then=self._show)
        self._decoding = Decoding(self._answer)
        self._delivery = Delivery()
        self._pace = Pace(device)
        self._switching = Switching()
        #: that the last model call took
        self._seconds = 0.0
        self.counts = Counts()

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._slots) or bool(self._prompts)

    @property
    def limit(self) -> int:
        """Slots that are filled for now: fewer for a while after memory was short."""
        return self._slots.limit

    @property
    def in_flight(self) -> int:
        """Slots that are in use."""
        return len(self._slots)

    def take(self, image: RenderState) -> None:
        """It waits from now on: for its texts, then for a slot."""
        if image.overflowed is None:
            self._prompts.take(image)
        else:
            self._slots.put_back([image])

    def show(self, picture: Future[Pixels], answer: Future[Pixels]) -> None:
        """Answers with the picture as it is now, or cancels the answer if it is not in flight."""
        image = next((image for image in self._slots.in_flight if image.future is picture), None)
        if image is None:
            answer.cancel()
            return
        try:
            latent, phase = self._batches[image.shape].estimate(image)[None], image.phase
            family, preview = phase.checkpoint.family, phase.vaes.preview
            if preview is None:
                pixels = phase.checkpoint.colours.pictures(latent)
            else:
                pixels = family.decode(latent, tiling=phase.tiling, rows=1, vae=preview).pixels
            self._delivery.answers([answer], pixels, _faults(latent))
        except Exception as error:  # a wish that costs a picture would be worse than one not granted
            self._delivery.error(answer, error)

    def end_early(self, pictures: Sequence[Future[Pixels]]) -> None:
        """Makes do with what the pictures are by now, or after their first step."""
        for image in self._images():
            image.ends_early = image.ends_early or image.future in pictures

    def turn(self) -> None:
        """Images join, one model call is made, finished ones leave."""
        try:
            # for as long as the last model call took, at most: half of the time
            urgent = max((image.priority for image in self._slots.in_flight), default=-inf)
            self._prompts.advance(self._seconds, self._slots.wait, self._fail, priority=urgent)
            self._join()
            self._rest_finished()  # some have no model call, or had their last before memory ran out
            began = time.monotonic()
            has_called = self._call()
            self._seconds = time.monotonic() - began
            if self._after:
                self._decode_beside(is_idle=not has_called and not self._prompts)
            else:
                self._decode()
            if not has_called:
                self._prompts.wait()
            return
        except torch.OutOfMemoryError:
            # handled below: in here the traceback keeps the step's tensors alive
            pass
        self._make_room()

    def abandon(self, reason: BaseException) -> None:
        """All images that are left fail with `reason`; returns when everything has been delivered."""
        for image in self._images():
            self._delivery.error(image.future, reason)
        self._delivery.close()

    def _images(self) -> tuple[RenderState, ...]:
        """All that are not done, those that are furthest first."""
        return (*self._slots.in_flight, *self._slots.waiting, *self._prompts.images)

    def _join(self) -> None:
        self._go_back(self._slots.outranked())
        others_wait = bool(self._slots.waiting and self._slots.in_flight)
        # those whose pictures were encoded beside have next to nothing left to be done
        most = at_once(self._slots.waiting[0]) if others_wait and not self._before else None
        joining = [image for image in self._slots.next_up(most) if not _dropped(image)]
        try:
            for image in self._done(self._encode, joining):
                self._done(self._enter, [image])
        except torch.OutOfMemoryError:
            self._slots.put_back(image for image in joining if image.slot is None and not image.failed)
            raise

    def _call(self) -> bool:
        """One model call: for the image that waited longest, and all those whose rows can share it.

        Returns:
            False: there was none to make.
        """
        turn = self._slots.turn(stays=self._switching.stays)
        images = [image for image in turn if self._is_wanted(image)]
        if not images:
            return False
        batch, patched = self._batches[images[0].shape], images[0].phase.checkpoint.family.loras.denoiser
        began, changing = time.monotonic(), patched.seconds
        parts = self._parts(self._done(batch.begin, images))
        complete: list[RenderState] = []

        def call(some: Sequence[RenderState]) -> None:
            complete.extend(self._answer_rows(batch, [parts[image] for image in some]))

        self._slots.served(self._done(call, list(parts)))
        self._pace.keep()
        self._switching.called(time.monotonic() - began, patched.seconds - changing)
        for image in complete:
            self._done(self._go_on, [image])
        return True

    def _answer_rows(self, batch: Batch, parts: Sequence[Part]) -> list[RenderState]:
        """Those whose last rows these were."""
        rows = sum(len(part) for part in parts)
        if self._sharing is not None and self._sharing.is_to_be_tried(parts):
            complete, exact = batch.try_sharing(parts)
            self._sharing.note(parts, exact)
            calls, padding = 1 + len(parts), rows
        else:
            calls, padding = 1, self._packer.padding(rows)
            complete = batch.call(parts, padding)
        self.counts.calls += calls
        self.counts.rows += rows
        self.counts.padding += padding
        return complete

    def _parts(self, images: Sequence[RenderState]) -> dict[RenderState, Part]:
        """The rows of each of `images` that go into a model call; not all of them may have a part in it."""
        packed = self._packer.pack([image.n_wanted for image in images])
        parts: Sequence[Part] = [
            Part(image=image, rows=image.rows, start=len(image.answers), stop=len(image.answers) + n)
            for image, n in zip(images, packed, strict=True)
            if n and image.rows is not None
        ]
        if self._sharing is not None:
            parts = self._sharing.choose(parts)
        return {part.image: part for part in parts}

    def _show(self, image: RenderState) -> Steps[None]:
        """Its pictures go through the VAE and to whatever else is to see them, before it has a slot."""
        steps = self._shown(image)
        takes_turns = image.is_large and not self._before
        yield from self._turns.take(image.priority, steps) if takes_turns else steps

    def _shown(self, image: RenderState) -> Steps[None]:
        yield from self._latents.encode_ahead(image)
        yield from self._conditions.show(image)

    def _encode(self, images: Sequence[RenderState]) -> None:
        fresh = [image for image in images if image.history is None]
        for checkpoint in {id(image.phase.checkpoint): image.phase.checkpoint for image in fresh}.values():
            self._latents.encode([image for image in fresh if image.phase.checkpoint is checkpoint])
        for image in fresh:
            self._conditions.build(image)
            z0 = self._latents.start(image)
            image.history = torch.cat([torch.zeros_like(z0)[None], z0[None], image.course.begin(z0)])
            image.ask()

    def _enter(self, images: Sequence[RenderState]) -> None:
        for image in images:
            shape = image.shape
            if shape not in self._batches:
                self._batches[shape] = Batch(shape, self._device)
            self._batches[shape].put(image)
            self._slots.enter(image, image.group)

    def _go_on(self, images: Sequence[RenderState]) -> None:
        """Takes images whose call is answered to their next one."""
        for image in images:
            self._batches[image.shape].advance(image)
            self._slots.move(image, image.group)
            self.counts.image_calls += 1
            if image.on_step is not None:
                image.on_step(image.course.done, image.course.total)

    def _rest_finished(self) -> list[RenderState]:
        """Those that have their last latent have no more turns; gives them."""
        finished = [image for image in self._slots.in_flight if image.is_finished and self._is_wanted(image)]
        for image in finished:
            self._slots.rest(image)
        return finished

    def _decode(self) -> None:
        """Takes finished images on to their pictures: a batch's steps for as long as the model call took."""
        end = time.monotonic() + self._seconds
        for _ in range(DECODING_STEPS):
            batches = self._decoding.batches(self._rest_finished())
            if not batches:
                return
            self._done(self._decoding.step, batches[0])
            if batches[0][0].slot is None or time.monotonic() >= end:
                return

    def _decode_beside(self, *, is_idle: bool) -> None:
        """Launches what there is room for: their slots are free by then, however long the device takes.

        Args:
            is_idle: nothing else is to be done, so that it waits for room.
        """
        if is_idle and self._rest_finished():
            self._after.wait_for_room()
        while not self._after.is_full and (batches := self._decoding.batches(self._rest_finished())):
            self._done(self._decoding.step, batches[0])

    def _answer(self, images: Sequence[RenderState]) -> Steps[None]:
        latents = self._batches[images[0].shape].results(images)
        yield from self._after.take(self._deliver(images, latents), latents)
        for image in images:
            self._leave(image)

    def _deliver(self, images: Sequence[RenderState], latents: Tensor) -> Steps[None]:
        """Their pictures, or what else they want of their final `latents`."""
        futures, first = [image.future for image in images], images[0]
        faults = _faults(latents)
        if first.render.wants_latent:
            self._delivery.answers(futures, latents, faults)
            return
        phase = first.phase
        decoded = yield from phase.checkpoint.family.decode_steps(
            latents,
            tiling=phase.tiling,
            rows=self._pictures,
            vae=phase.vaes.decoder,
            full_precision=first.overflowed is not None,
        )

        def again(place: int) -> None:
            image = images[place]
            image.overflowed = latents[place]
            image.history = image.overflowed[None]
            self._take_again(image)

        faults = torch.where((faults == SOUND) & ~decoded.is_finite, PICTURE, faults)
        self._delivery.answers(futures, decoded.pixels, faults, again if decoded.is_half else None)

    def _is_wanted(self, image: RenderState) -> bool:
        """Whether it is to be gone on with; one that was cancelled leaves."""
        if not _dropped(image):
            return True
        self._leave(image)
        return False

    def _leave(self, image: RenderState, *, keep: bool = False) -> None:
        shape = image.shape
        self._batches[shape].drop(image, keep=keep)
        self._decoding.drop(image)
        self._slots.leave(image)
        if not self._batches[shape]:
            del self._batches[shape]

    def _go_back(self, images: Sequence[RenderState]) -> None:
        """They wait for a slot again, with what they have."""
        for image in images:
            self._leave(image, keep=True)
        self._slots.put_back(images)

    def _done(self, work: Work, images: Sequence[RenderState]) -> list[RenderState]:
        """Those that `work` could be done for: together, or else each alone, so that only culprits fail."""
        if not images:
            return []
        try:
            work(images)
            return list(images)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if len(images) == 1:
                self._fail(images[0], error)
                return []
            log.warning("%d images together failed: each is tried alone", len(images), exc_info=error)
        return [image for image in images if self._done(work, [image])]

    def _fail(self, image: RenderState, error: BaseException) -> None:
        if image.slot is not None:
            self._leave(image)
        image.failed = True
        self._delivery.error(image.future, error)

    def _make_room(self) -> None:
        """After an out-of-memory error: half of the images go back, with what they have; one alone fails."""
        self._before.wait()
        self._after.wait()
        self._drop_idle()
        self._decoding.forget()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if self._slots.limit > 1:
            back = self._slots.halve()
            self._go_back(back)
            self._on_out_of_memory(self._slots.limit, len(back))
            return
        image = self._images()[0]
        if not image.was_short:  # once more: what others held is free by now
            image.was_short = True
            return
        if image in self._slots.waiting:
            self._slots.next_up()
        self._prompts.drop(image)
        size = f"{image.render.params.width} × {image.render.params.height}"
        hint = "IMG2IMG_VAE_TILE bounds what the VAE takes"
        message = f"{size} is too large for {self._device}, even alone ({hint})"
        self._fail(image, MemoryError(message))


def _faults(latents: Tensor) -> Tensor:
    """[n], as `Delivery.answers` takes them, of latents [n, C, h, w]."""
    return torch.where(latents.isfinite().flatten(1).all(1), SOUND, LATENT)


def _dropped(image: RenderState) -> bool:
    """Whether its future was cancelled; those who wait for it are told."""
    return image.future.cancelled() and not image.future.set_running_or_notify_cancel()
