"""The engine: a thread that renders everything it is given, in one in-flight batch for each size."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import torch

from img2img_shared.errors import Refused, Unavailable
from img2img_worker.engine.counts import Counts
from img2img_worker.engine.exact_sharing import ExactSharing
from img2img_worker.engine.loaded import Loaded
from img2img_worker.engine.loop import EngineLoop, OnOutOfMemory
from img2img_worker.engine.other_checkpoints import OtherCheckpoints
from img2img_worker.engine.packer import BatchPacker
from img2img_worker.engine.render import Pixels, Render
from img2img_worker.engine.state import OnStep, RenderState, are_alike, prepare_render
from img2img_worker.engine.warm import warm_up
from img2img_worker.models.families.family import Family
from img2img_worker.models.transfer import make_current

__all__ = ["Engine", "Pixels", "Render"]

log = logging.getLogger(__name__)

#: images in flight by default
SLOTS_GPU, SLOTS_CPU = 32, 4
#: most rows of a model call in deterministic mode, and most rows of one image in it
SHARED_ROWS, OWN_ROWS = 12, 4


@dataclass(frozen=True, kw_only=True)
class _Errand:
    """Something else that the engine's thread does between two steps; `work` settles `answer` itself."""

    work: Callable[[], None]
    answer: Future[Any]


def _no_other(name: str) -> Family:
    raise Refused("checkpoint", name, "leave it out; there is no other here")


class Engine:
    """Renders pictures, which share model calls whatever their parameters.

    Args:
        family: the checkpoint; the engine's thread is the only one that calls it.
        slots: most images in flight; by default 32 on a GPU and 4 on a CPU.
        deterministic: whether a picture's bytes are independent of what else is in flight; by default on a
            CPU only. Images then share calls only where that was seen to keep their bits, and gains something
            (see `ExactSharing`).
        others: loads another checkpoint that an image needs, by its name; see `OtherCheckpoints`.
        most_others: how many of them are loaded at the same time.
        on_out_of_memory: called with the number of slots for a while, and of images that left theirs; quick.
    """

    def __init__(
        self,
        family: Family,
        *,
        slots: int | None = None,
        deterministic: bool | None = None,
        others: Callable[[str], Family] = _no_other,
        most_others: int = 0,
        on_out_of_memory: OnOutOfMemory | None = None,
    ) -> None:
        on_cpu = family.device.type == "cpu"
        deterministic = on_cpu if deterministic is None else deterministic
        self.slots = slots or (SLOTS_CPU if on_cpu else SLOTS_GPU)
        self._family = family
        self._own = Loaded.of(family, deterministic=deterministic)
        self._others = OtherCheckpoints(others, most_others, deterministic=deterministic)
        if deterministic:
            # not by the number of slots: an image's share of a call must be the same on every worker
            self._packer = BatchPacker(most=SHARED_ROWS, compiled=family.is_compiled, own=OWN_ROWS)
        else:
            self._packer = BatchPacker(most=2 * self.slots, compiled=family.is_compiled)
        self._loop = EngineLoop(
            family.device,
            self.slots,
            self._packer,
            pictures=1 if deterministic else None,
            sharing=ExactSharing() if deterministic else None,
            drop_idle=self._drop_idle,
            take_again=self._give,
            on_out_of_memory=on_out_of_memory or _ignore,
        )
        self._inbox: queue.SimpleQueue[RenderState | _Errand | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = self._broken = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, render: Render, on_step: OnStep | None = None, *, priority: int = 0) -> Future[Any]:
        """Render a picture; thread-safe.

        Waits while another checkpoint that the picture needs is loaded. ``future.cancel()`` works until the
        picture is done, and frees its slot before the next step.

        Args:
            on_step: called with (model calls done, in all) after each call, in the engine's thread; quick.
            priority: higher goes first. If all slots are taken, the picture takes one from the lowest
                priority; that picture waits as it is, continues later, and is the same to the byte.

        Returns:
            the future of the picture, uint8 [H, W, 3], or of its latent, float32 [C, h, w], if that is
            wanted. It fails with `MemoryError` if the picture is too large for the device even alone, and
            with `WorkerError` if the latent or the picture is not finite.

        Raises:
            Refused: no plan can be made of the parameters, or a LoRA or a checkpoint is not there, or does
                not fit.
            Unavailable: the engine is closed.
        """
        names = {name for name in (render.checkpoint, render.params.refiner_checkpoint) if name}
        others = self._others.borrow(names)
        try:
            checkpoint = others.get(render.checkpoint or "", self._own)
            if not are_alike(checkpoint.family, self._own.family):
                params = render.params.model_copy(update={"tiling": False})
                render = replace(render, params=params)
            image = prepare_render(
                render,
                checkpoint,
                others.get(render.params.refiner_checkpoint or ""),
                on_step,
                priority=priority,
            )
            self._give(image)
        except BaseException:
            self._others.give_back(names)
            raise
        image.future.add_done_callback(lambda _: self._others.give_back(names))
        return image.future

    def expect(self, priority: int) -> None:
        """A picture of this priority will be submitted in a moment; thread-safe.

        If it is more urgent than all in flight, a GPU is given no further call of theirs until it is there,
        or a moment has passed: the picture would have to wait for that.
        """
        self._ask(_Errand(work=lambda: self._loop.expect(priority), answer=Future()))

    def estimate(self, picture: Future[Pixels]) -> Future[Pixels]:
        """A preview of a picture by the model's last answer, or by the init image before that; thread-safe.

        It is made before the next step, costs no model call, and does not change the picture.

        Args:
            picture: the future that `submit` returned.

        Returns:
            the future of the preview: uint8 [h, w, 3] with a pixel for each latent cell, or, by TAESD, uint8
            [H, W, 3]. It is cancelled if the picture is not in flight (it waits, or it is done).
        """
        answer: Future[Pixels] = Future()
        return self._ask(_Errand(work=lambda: self._loop.show(picture, answer), answer=answer))

    def end_early(self, *pictures: Future[Pixels]) -> None:
        """Deliver pictures by the model's last answer, or after their first step; thread-safe.

        It has no effect on pictures that are done.

        Args:
            pictures: the futures that `submit` returned.
        """
        self._ask(_Errand(work=lambda: self._loop.end_early(pictures), answer=Future()))

    def warm_up(self, sizes: Sequence[tuple[int, int]]) -> Future[None]:
        """Compile the network for pictures of these sizes, (width, height), which takes minutes.

        For a checkpoint that was opened with a compiler. At other times, torch should not compile anything:
        ``torch.compiler.set_stance("eager_on_recompile")``. The future is cancelled if the engine is closed.
        """
        answer: Future[None] = Future()

        def work() -> None:
            try:
                warm_up(self._family, self._packer.counts, sizes)
                answer.set_result(None)
            except Exception as error:
                answer.set_exception(error)

        return self._ask(_Errand(work=work, answer=answer))

    @property
    def counts(self) -> Counts:
        """How much was done so far."""
        return replace(self._loop.counts)

    @property
    def limit(self) -> int:
        """How many slots are filled now: for a while after memory ran out, fewer than `slots`."""
        return self._loop.limit

    @property
    def in_flight(self) -> int:
        """How many slots are in use."""
        return self._loop.in_flight

    @property
    def broken(self) -> bool:
        """Whether an error of its own has stopped it, and not `close`: it renders nothing more."""
        return self._broken

    def close(self) -> None:
        """Stop after the running step; pictures that are not done fail with `Unavailable`."""
        with self._closing:
            self._closed = True
        self._others.close()
        self._inbox.put(None)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drop_idle(self) -> None:
        self._others.drop_idle()
        self._family.free_memory()

    def _run(self) -> None:
        reason: BaseException = Unavailable("the engine was closed")
        try:
            with torch.inference_mode(), make_current(self._family.device):
                while self._take_in():
                    self._loop.turn()
        except Exception as error:
            log.exception("the engine stops")
            self._broken, reason = True, error
        finally:
            with self._closing:
                self._closed = True
            while not self._inbox.empty():
                left = self._inbox.get()
                if isinstance(left, RenderState):
                    self._loop.take(left)
                elif left is not None:
                    left.answer.cancel()
            self._loop.abandon(reason)

    def _take_in(self) -> bool:
        """Take new images and errands from the inbox, and wait for one while there is nothing to do.

        Returns:
            False: the engine is to be closed.
        """
        patience = self._loop.patience
        while True:
            try:
                new = self._inbox.get(timeout=patience)
            except queue.Empty:
                return True
            if new is None:
                return False
            if isinstance(new, RenderState):
                self._loop.take(new)
            else:
                new.work()
            patience = 0.0 if self._loop else None

    def _give(self, image: RenderState) -> None:
        """Have the engine's thread take an image."""
        with self._closing:
            if self._closed:
                raise Unavailable("the engine is closed")
            self._inbox.put(image)

    def _ask(self, errand: _Errand) -> Future[Any]:
        with self._closing:
            if self._closed:
                errand.answer.cancel()
            else:
                self._inbox.put(errand)
        return errand.answer


def _ignore(_slots: int, _put_back: int) -> None:
    """Nobody wants to be told."""
