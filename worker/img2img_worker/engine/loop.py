"""The engine's loop, in one thread: images join, the model answers their rows, finished images leave."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from math import inf

import torch

from img2img_worker.engine.call_maker import CallMaker
from img2img_worker.engine.counts import Counts
from img2img_worker.engine.culprits import Work, run_isolating_failures
from img2img_worker.engine.decoding import Decoding, at_once
from img2img_worker.engine.delivery import Delivery
from img2img_worker.engine.exact_sharing import ExactSharing
from img2img_worker.engine.finishing import Finishing
from img2img_worker.engine.in_flight import InFlight
from img2img_worker.engine.pace import Pace, marks
from img2img_worker.engine.packer import BatchPacker
from img2img_worker.engine.preparation import Preparation
from img2img_worker.engine.prompt_encoder import PromptEncoder
from img2img_worker.engine.render import Pixels
from img2img_worker.engine.side_stream import SideStream
from img2img_worker.engine.state import RenderState
from img2img_worker.engine.switching import Switching
from img2img_worker.models.steps import Steps

#: seconds between two looks at what a device has done, while nothing is to be launched
POLL = 0.002
#: seconds for which calls are held back, at most, for a more urgent image that is expected, or gets ready
HOLD = 0.1

#: called after memory ran out, with the number of slots for a while, and of images that left theirs
OnOutOfMemory = Callable[[int, int], None]


class EngineLoop:
    """The images in flight, and the work on them, turn by turn.

    Args:
        slots: most images in flight.
        pictures: the VAE's constant batch size; None: as many pictures as there are.
        sharing: which images may share calls without changing a bit of theirs; None: all that can.
        drop_idle: unloads checkpoints that no image uses.
        take_again: has the engine's thread call `take`, from any thread; raises `Unavailable` if the engine
            is closed.
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
        self._drop_idle = drop_idle
        self._on_out_of_memory = on_out_of_memory
        self.counts = Counts()
        self._flight = InFlight(device, slots)
        self._slots = self._flight.slots
        self._preparation = Preparation(device, pictures)
        self._prompts = PromptEncoder(then=self._preparation.show)
        self._calls = CallMaker(packer, sharing, self.counts)
        self._switching = Switching()
        self._pace = Pace(marks(device))
        self._delivery = Delivery()
        #: where pictures are decoded
        self._side = SideStream(device)
        self._finishing = Finishing(self._side, pictures, self._delivery, take_again)
        self._decoding = Decoding(self._side, self._finish, self._rest_finished, self._done)
        #: duration of the last model call
        self._seconds = 0.0
        #: the priority of an image that others wait for, and until when
        self._awaited = -inf, 0.0
        #: seconds from the last turn on for which it is too early for a call; 0: it made what there was
        self._early = 0.0

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._slots) or bool(self._prompts)

    @property
    def patience(self) -> float | None:
        """Seconds that something new may be waited for before the next turn; None: any number."""
        return min(self._early, POLL) if self else None

    @property
    def limit(self) -> int:
        """How many slots are filled now: fewer for a while after memory ran out."""
        return self._slots.limit

    @property
    def in_flight(self) -> int:
        """How many slots are in use."""
        return len(self._slots)

    def expect(self, priority: float) -> None:
        """An image of this priority is about to come: do not begin another call of less urgent ones."""
        if priority > self._priority:
            self._awaited = priority, time.monotonic() + HOLD

    def take(self, image: RenderState) -> None:
        """Have an image wait for its texts, and then for a slot."""
        self.expect(image.priority)
        if image.overflowed is None:
            self._prompts.take(image)
        else:
            self._slots.put_back([image])

    def show(self, picture: Future[Pixels], answer: Future[Pixels]) -> None:
        """Answer with a preview of a picture, or cancel the answer if the picture is not in flight."""
        image = next((image for image in self._slots.in_flight if image.future is picture), None)
        if image is None:
            answer.cancel()
            return
        try:
            self._finishing.preview(image, self._flight.batch(image).estimate(image), answer)
        except Exception as error:  # a failed preview must not cost the picture
            self._delivery.error(answer, error)

    def end_early(self, pictures: Sequence[Future[Pixels]]) -> None:
        """Deliver pictures as they are now, or after their first step."""
        for image in self._images():
            image.ends_early = image.ends_early or image.future in pictures

    def turn(self) -> None:
        """Images join, one model call is made unless it is too early for one, finished ones leave."""
        try:
            early = self._too_early()
            if early or not self._early:  # else they had their time, and the device must not run dry
                # without that, at most as long as the last model call took: half of the time
                self._prompts.advance(
                    early or self._seconds,
                    self._slots.wait,
                    self._fail,
                    priority=self._priority,
                    of_each=not early,
                )
            self._join()
            self._rest_finished()  # some have no model calls, or had their last before memory ran out
            self._early = self._too_early()
            if self._early:
                self._decoding.advance(0.0, is_idle=False)
                return
            began = time.monotonic()
            has_called = self._call()
            self._seconds = time.monotonic() - began
            self._decoding.advance(self._seconds, is_idle=not has_called and not self._prompts)
            if not has_called:
                self._prompts.wait()
            return
        except torch.OutOfMemoryError:
            # handled below: here, the traceback still keeps the step's tensors alive
            pass
        self._make_room()

    def abandon(self, reason: BaseException) -> None:
        """Fail all remaining images with `reason`; returns when everything has been delivered."""
        for image in self._images():
            self._delivery.error(image.future, reason)
        self._delivery.close()

    def _images(self) -> tuple[RenderState, ...]:
        """All images that are not done, the furthest first."""
        return (*self._slots.in_flight, *self._slots.waiting, *self._prompts.images)

    def _join(self) -> None:
        self._go_back(self._slots.outranked())
        others_wait = bool(self._slots.waiting and self._slots.in_flight)
        # pictures that were encoded on the side stream take next to no time when they join
        most = at_once(self._slots.waiting[0]) if others_wait and not self._preparation.is_beside else None
        joining = [image for image in self._slots.next_up(most) if not _dropped(image)]
        try:
            for image in self._done(self._preparation.begin, joining):
                self._done(self._flight.enter, [image])
        except torch.OutOfMemoryError:
            self._slots.put_back(image for image in joining if image.slot is None and not image.failed)
            raise

    @property
    def _priority(self) -> float:
        """That of the most urgent in flight."""
        return max((image.priority for image in self._slots.in_flight), default=-inf)

    def _too_early(self) -> float:
        """Seconds for which a call is too early: the device has enough to do, or one more urgent comes."""
        if not self._pace:
            return 0.0
        if self._awaited[0] <= self._priority:  # it came
            self._awaited = -inf, 0.0
        if (rest := self._pace.rest()) or not self._slots.in_flight:
            return rest
        return max(0.0, self._awaited[1] - time.monotonic())

    def _call(self) -> bool:
        """Make one model call, for the image that waited longest and all images whose rows can share it.

        Returns:
            False: there was none to make.
        """
        turn = self._slots.turn(stays=self._switching.stays)
        images = [image for image in turn if self._is_wanted(image)]
        if not images:
            return False
        batch, patched = self._flight.batch(images[0]), images[0].phase.checkpoint.family.loras.denoiser
        began, changing = time.monotonic(), patched.seconds
        parts = self._calls.parts(self._done(batch.begin, images))
        kind = hash(images[0].group), sum(map(len, parts.values()))
        complete: list[RenderState] = []

        def call(some: Sequence[RenderState]) -> None:
            complete.extend(self._calls.call(batch, [parts[image] for image in some]))

        self._slots.served(self._done(call, list(parts)))
        seconds = max(self._pace.launched(kind), time.monotonic() - began)
        self._switching.called(seconds, patched.seconds - changing)
        for image in complete:
            self._done(self._go_on, [image])
        return True

    def _go_on(self, images: Sequence[RenderState]) -> None:
        """Bring images whose call is answered to their next call."""
        for image in images:
            self._flight.advance(image)
            self.counts.image_calls += 1
            if image.on_step is not None:
                image.on_step(image.course.done, image.course.total)

    def _rest_finished(self) -> list[RenderState]:
        """Give no more turns to images that have their last latent. Returns these images."""
        finished = [image for image in self._slots.in_flight if image.is_finished and self._is_wanted(image)]
        for image in finished:
            self._slots.rest(image)
        return finished

    def _finish(self, images: Sequence[RenderState]) -> Steps[None]:
        yield from self._finishing.finish(images, self._flight.latents(images))
        for image in images:
            self._leave(image)

    def _is_wanted(self, image: RenderState) -> bool:
        """Whether an image is still wanted; one that was cancelled leaves."""
        if not _dropped(image):
            return True
        self._leave(image)
        return False

    def _leave(self, image: RenderState, *, keep: bool = False) -> None:
        self._flight.leave(image, keep=keep)
        self._decoding.drop(image)

    def _go_back(self, images: Sequence[RenderState]) -> None:
        """Have images wait for a slot again, as far as they are."""
        for image in images:
            self._leave(image, keep=True)
        self._slots.put_back(images)

    def _done(self, work: Work, images: Sequence[RenderState]) -> list[RenderState]:
        """The images for which `work` succeeded; the others fail."""
        return run_isolating_failures(work, images, self._fail)

    def _fail(self, image: RenderState, error: BaseException) -> None:
        if image.slot is not None:
            self._leave(image)
        image.failed = True
        self._delivery.error(image.future, error)

    def _make_room(self) -> None:
        """After an out-of-memory error, have half of the images wait again; an image that is alone fails."""
        self._preparation.wait()
        self._side.wait()
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
        if not image.was_short:  # once more, now that the memory of others is free
            image.was_short = True
            return
        if image in self._slots.waiting:
            self._slots.next_up()
        self._prompts.drop(image)
        size = f"{image.render.params.width} × {image.render.params.height}"
        hint = "IMG2IMG_VAE_TILE bounds what the VAE takes"
        message = f"{size} is too large for {self._device}, even alone ({hint})"
        self._fail(image, MemoryError(message))


def _dropped(image: RenderState) -> bool:
    """Whether an image's future was cancelled; whoever waits for it is notified."""
    return image.future.cancelled() and not image.future.set_running_or_notify_cancel()
