"""The engine: a thread that renders whatever it is given, all of it in one in-flight batch for each size."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import torch

from img2img_shared.errors import Unavailable
from img2img_worker.engine.batch import Batch, Counts
from img2img_worker.engine.conditions import Conditions
from img2img_worker.engine.delivery import Delivery, Pace
from img2img_worker.engine.image import Group, Image, OnStep, Pixels
from img2img_worker.engine.latents import TOGETHER, Latents
from img2img_worker.engine.preview import Colours
from img2img_worker.engine.render import Render
from img2img_worker.engine.rows import Rows
from img2img_worker.engine.slots import Slots
from img2img_worker.engine.transfer import sent
from img2img_worker.engine.warm import warm_up
from img2img_worker.models.family import Family

__all__ = ["Engine", "Pixels", "Render"]

log = logging.getLogger(__name__)

#: images in flight, where nobody says how many
SLOTS_GPU, SLOTS_CPU = 32, 4
#: rows of every model call in deterministic mode on a GPU, and at most of one on a CPU
FIXED_ROWS = 16

Work = Callable[[Sequence[Image]], None]


@dataclass(frozen=True, kw_only=True)
class _Errand:
    """What else the engine's thread is to do between two steps; it settles the answer itself."""

    work: Callable[[], None]
    answer: Future[Any]


class Engine:
    """Renders pictures; each advances by one model call in every step of its group, whatever its parameters.

    Args:
        family: the checkpoint; the engine's thread is the only one that calls it.
        slots: images in flight, at most; by default 32 on a GPU and 4 on a CPU.
        deterministic: a picture's bytes do not depend on what else is in flight; by default on a CPU only.
        rows: in deterministic mode, the row count of every model call; by default 16 on a GPU, while on a
            CPU, where sharing calls gains little, each image has its own.
    """

    def __init__(
        self,
        family: Family,
        *,
        slots: int | None = None,
        deterministic: bool | None = None,
        rows: int | None = None,
    ) -> None:
        on_cpu = family.device.type == "cpu"
        deterministic = on_cpu if deterministic is None else deterministic
        self.slots = slots or (SLOTS_CPU if on_cpu else SLOTS_GPU)
        self._family = family
        if not deterministic:
            self._rows = Rows(most=2 * self.slots)
        elif rows is None and on_cpu:
            # not by the slots: the same on every worker
            self._rows = Rows(most=FIXED_ROWS, apart=True)
        else:
            self._rows = Rows(most=FIXED_ROWS, fixed=rows or FIXED_ROWS)
        self._pictures = 1 if deterministic else None
        self._slots: Slots[Image] = Slots(self.slots)
        self._batches: dict[Group, Batch] = {}
        self._conditions = Conditions(family, self._pictures)
        self._latents = Latents(family, self._pictures)
        self._colours = Colours(family)
        self._counts = Counts()
        self._delivery = Delivery()
        self._pace = Pace(family.device)
        self._inbox: queue.SimpleQueue[Image | _Errand | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = self._broken = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, render: Render, on_step: OnStep | None = None) -> Future[Pixels]:
        """The picture to be, uint8 [H, W, 3]; thread-safe.

        ``future.cancel()`` works until the picture is done: it frees the slot before the next step.
        A future fails with `MemoryError` if the image alone is too large for the device, and with
        `FarmError` if its latent is not finite.

        Args:
            on_step: called with (model calls done, in all) after each; quick, it runs in the engine's thread.

        Raises:
            Refused: parameters that no plan can be made of, LoRAs that are not there or do not fit.
            Unavailable: the engine is closed.
        """
        image = Image(render, self._family, on_step)
        with self._closing:
            if self._closed:
                raise Unavailable("the engine is closed")
            self._inbox.put(image)
        return image.future

    def estimate(self, picture: Future[Pixels]) -> Future[Pixels]:
        """What a picture looks like so far: uint8 [h, w, 3], a pixel for each latent cell; thread-safe.

        Answered before the next step, from the model's last answer, or the init image before the first.
        Costs no model call and changes no picture. Cancelled where the picture is not in flight: it waits,
        or it is done.

        Args:
            picture: as `submit` gave it.
        """
        answer: Future[Pixels] = Future()
        return self._ask(_Errand(work=lambda: self._show(picture, answer), answer=answer))

    def warm_up(self, sizes: Sequence[tuple[int, int]]) -> Future[None]:
        """Compiles the network for pictures of these sizes, (width, height), which takes minutes.

        For a checkpoint that was opened with a compiler. Outside of this, torch should compile nothing:
        ``torch.compiler.set_stance("eager_on_recompile")``. The future is cancelled if the engine is closed.
        """
        answer: Future[None] = Future()

        def work() -> None:
            try:
                warm_up(self._family, self._rows.counts, sizes)
                answer.set_result(None)
            except Exception as error:
                answer.set_exception(error)

        return self._ask(_Errand(work=work, answer=answer))

    @property
    def counts(self) -> Counts:
        """What has been done so far."""
        return replace(self._counts)

    @property
    def limit(self) -> int:
        """Slots that it fills for now: fewer than `slots` for a while after memory was short."""
        return self._slots.limit

    @property
    def broken(self) -> bool:
        """Whether it stopped by an error of its own, not by `close`: no picture comes out of it any more."""
        return self._broken

    def close(self) -> None:
        """Stops after the running step; pictures that are not done fail with `Unavailable`."""
        with self._closing:
            self._closed = True
        self._inbox.put(None)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        reason: BaseException = Unavailable("the engine was closed")
        try:
            with torch.inference_mode():
                while self._take_in():
                    self._turn()
        except Exception as error:
            log.exception("the engine stops")
            self._broken, reason = True, error
        finally:
            with self._closing:
                self._closed = True
            while not self._inbox.empty():
                left = self._inbox.get()
                if isinstance(left, Image):
                    self._slots.wait(left)
                elif left is not None:
                    left.answer.cancel()
            for image in (*self._slots.in_flight, *self._slots.waiting):
                self._delivery.error(image.future, reason)
            self._delivery.close()

    def _take_in(self) -> bool:
        """New images join the queue; waits for one if there is nothing to do. False: close."""
        while not self._slots or not self._inbox.empty():
            new = self._inbox.get()
            if new is None:
                return False
            if isinstance(new, Image):
                self._slots.wait(new)
            else:
                new.work()
        return True

    def _ask(self, errand: _Errand) -> Future[Any]:
        with self._closing:
            if self._closed:
                errand.answer.cancel()
            else:
                self._inbox.put(errand)
        return errand.answer

    def _show(self, picture: Future[Pixels], answer: Future[Pixels]) -> None:
        """The picture as it is between two steps."""
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

    def _turn(self) -> None:
        """Images join, one group takes a step, finished ones leave."""
        try:
            self._join()
            self._step()
            return
        except torch.OutOfMemoryError:
            # handled below: in here the traceback keeps the step's tensors alive
            pass
        self._make_room()

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
        for start in range(0, len(finished), TOGETHER):
            self._done(self._finish, finished[start : start + TOGETHER])

    def _encode(self, images: Sequence[Image]) -> None:
        fresh = [image for image in images if image.history is None]
        self._latents.encode(fresh)
        for image in fresh:
            image.branches = self._conditions.branches(image)
            z0 = self._latents.start(image)
            image.history = torch.cat([torch.zeros_like(z0)[None], z0[None], sent(image.noises, z0.device)])

    def _enter(self, images: Sequence[Image]) -> None:
        for image in images:
            if image.group not in self._batches:
                size = image.render.latent_size
                self._batches[image.group] = Batch(self._family, size, self._rows, self._counts)
            self._batches[image.group].put(image)
            self._slots.enter(image, image.group)

    def _finish(self, images: Sequence[Image]) -> None:
        latents = self._batches[images[0].group].results(images)
        pixels = self._family.decode(latents, rows=self._pictures)
        finite = latents.isfinite().flatten(1).all(1)
        self._delivery.pictures([image.future for image in images], pixels, finite)
        for image in images:
            self._leave(image)

    def _leave(self, image: Image, *, keep: bool = False) -> None:
        self._batches[image.group].drop(image, keep=keep)
        if self._slots.leave(image):
            del self._batches[image.group]

    def _done(self, work: Work, images: Sequence[Image]) -> list[Image]:
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

    def _fail(self, image: Image, error: BaseException) -> None:
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


def _dropped(image: Image) -> bool:
    """Whether its future was cancelled; those who wait for it are told."""
    return image.future.cancelled() and not image.future.set_running_or_notify_cancel()


def _report(images: Sequence[Image]) -> None:
    for image in images:
        if image.on_step is not None:
            image.on_step(image.call, len(image.calls))
