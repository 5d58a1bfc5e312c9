"""The engine's work: images join, a group of them takes a step, finished ones leave. One thread's affair."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import torch

from img2img_worker.engine.batch import Batch, Counts
from img2img_worker.engine.condition_builder import ConditionBuilder
from img2img_worker.engine.delivery import Delivery, Pace
from img2img_worker.engine.latents import TOGETHER, Latents
from img2img_worker.engine.packer import BatchPacker
from img2img_worker.engine.preview import Colours
from img2img_worker.engine.scheduler import Scheduler
from img2img_worker.engine.state import Group, Pixels, RenderState
from img2img_worker.engine.transfer import sent
from img2img_worker.models.families.family import Family

log = logging.getLogger(__name__)

Work = Callable[[Sequence[RenderState]], None]


class EngineLoop:
    """Images in flight, and what is done with them turn by turn.

    Args:
        slots: images in flight, at most.
        pictures: how many the VAE sees at a time, always; None: as many as there are.
    """

    def __init__(self, family: Family, slots: int, rows: BatchPacker, pictures: int | None) -> None:
        self._family = family
        self._rows = rows
        self._pictures = pictures
        self._slots: Scheduler[RenderState] = Scheduler(slots)
        self._batches: dict[Group, Batch] = {}
        self._conditions = ConditionBuilder(family, pictures)
        self._latents = Latents(family, pictures)
        self._colours = Colours(family)
        self._delivery = Delivery()
        self._pace = Pace(family.device)
        self.counts = Counts()

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._slots)

    @property
    def limit(self) -> int:
        """Scheduler that are filled for now: fewer for a while after memory was short."""
        return self._slots.limit

    def take(self, image: RenderState) -> None:
        """It waits for a slot from now on."""
        self._slots.wait(image)

    def show(self, picture: Future[Pixels], answer: Future[Pixels]) -> None:
        """Answers with the picture as it is now, or cancels the answer if it is not in flight."""
        image = next((image for image in self._slots.in_flight if image.future is picture), None)
        if image is None:
            answer.cancel()
            return
        try:
            latent = self._batches[image.group].estimate(image)[None]
            pixels = self._colours.pictures(latent)
            self._delivery.pictures([answer], pixels, latent.isfinite().flatten(1).all(1))
        except Exception as error:  # a wish that costs a picture would be worse than one not granted
            self._delivery.error(answer, error)

    def end_early(self, pictures: Sequence[Future[Pixels]]) -> None:
        """Makes do with what the pictures are by now, or after their first step."""
        for image in (*self._slots.in_flight, *self._slots.waiting):
            image.ends_early = image.ends_early or image.future in pictures

    def turn(self) -> None:
        """Images join, one group takes a step, finished ones leave."""
        try:
            self._join()
            self._step()
            return
        except torch.OutOfMemoryError:
            # handled below: in here the traceback keeps the step's tensors alive
            pass
        self._make_room()

    def abandon(self, reason: BaseException) -> None:
        """All images that are left fail with `reason`; returns when everything has been delivered."""
        for image in (*self._slots.in_flight, *self._slots.waiting):
            self._delivery.error(image.future, reason)
        self._delivery.close()

    def _join(self) -> None:
        joining = [image for image in self._slots.next_up() if not _dropped(image)]
        try:
            for image in self._done(self._encode, joining):
                self._done(self._enter, [image])
        except torch.OutOfMemoryError:
            self._slots.put_back(image for image in joining if image.slot is None and not image.failed)
            raise

    def _step(self) -> None:
        turn = self._slots.turn()
        if turn is None:
            return
        images = []
        for image in turn[1]:
            if _dropped(image):
                self._leave(image)
            else:
                images.append(image)
        running = [image for image in images if not image.finished]
        if running:
            for image in self._done(self._batches[running[0].group].step, running):
                self._done(_report, [image])
            self._pace.keep()
        finished = [image for image in images if image.finished and image.slot is not None]
        for tiling in (False, True):
            alike = [image for image in finished if image.render.params.tiling == tiling]
            for start in range(0, len(alike), TOGETHER):
                self._done(self._finish, alike[start : start + TOGETHER])

    def _encode(self, images: Sequence[RenderState]) -> None:
        fresh = [image for image in images if image.history is None]
        self._latents.encode(fresh)
        for image in fresh:
            image.branches = self._conditions.branches(image)
            z0 = self._latents.start(image)
            image.history = torch.cat([torch.zeros_like(z0)[None], z0[None], sent(image.noises, z0.device)])

    def _enter(self, images: Sequence[RenderState]) -> None:
        for image in images:
            if image.group not in self._batches:
                size = image.render.latent_size
                self._batches[image.group] = Batch(self._family, size, self._rows, self.counts)
            self._batches[image.group].put(image)
            self._slots.enter(image, image.group)

    def _finish(self, images: Sequence[RenderState]) -> None:
        latents = self._batches[images[0].group].results(images)
        tiling = images[0].render.params.tiling
        pixels = self._family.decode(latents, tiling=tiling, rows=self._pictures)
        finite = latents.isfinite().flatten(1).all(1)
        self._delivery.pictures([image.future for image in images], pixels, finite)
        for image in images:
            self._leave(image)

    def _leave(self, image: RenderState, *, keep: bool = False) -> None:
        self._batches[image.group].drop(image, keep=keep)
        if self._slots.leave(image):
            del self._batches[image.group]

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
        return [image for image in images if self._done(work, [image])]

    def _fail(self, image: RenderState, error: BaseException) -> None:
        if image.slot is not None:
            self._leave(image)
        image.failed = True
        self._delivery.error(image.future, error)

    def _make_room(self) -> None:
        """After an out-of-memory error: half of the images go back, with what they have; one alone fails."""
        if self._family.device.type == "cuda":
            torch.cuda.empty_cache()
        if self._slots.limit > 1:
            back = self._slots.halve()
            for image in back:
                self._leave(image, keep=True)
            self._slots.put_back(back)
            log.warning("out of memory: %d slots for now, %d images put back", self._slots.limit, len(back))
            return
        image = (*self._slots.in_flight, *self._slots.waiting)[0]
        if not image.was_short:  # once more: what others held is free by now
            image.was_short = True
            return
        if image.slot is None:
            self._slots.next_up()
        size = f"{image.render.params.width} × {image.render.params.height}"
        hint = "IMG2IMG_VAE_TILE bounds what the VAE takes"
        message = f"{size} is too large for {self._family.device}, even alone ({hint})"
        self._fail(image, MemoryError(message))


def _dropped(image: RenderState) -> bool:
    """Whether its future was cancelled; those who wait for it are told."""
    return image.future.cancelled() and not image.future.set_running_or_notify_cancel()


def _report(images: Sequence[RenderState]) -> None:
    for image in images:
        if image.on_step is not None:
            image.on_step(image.call, len(image.calls))
