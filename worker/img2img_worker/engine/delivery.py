"""Finished pictures on their way out: waiting for the device happens here, not in the engine's loop."""

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any

from torch import Tensor

from img2img_shared.errors import WorkerError
from img2img_worker.engine.pace import mark
from img2img_worker.models.transfer import to_host

#: what is not finite of an answer: nothing, its latent, or its picture alone
SOUND, LATENT, PICTURE = range(3)
NOT_FINITE = {
    LATENT: "the latent is not finite: the model overflowed, or its weights are damaged; "
    "a model that overflows in float16 may work in bfloat16 or float32",
    PICTURE: "the decoded picture is not finite: the VAE overflowed, or its weights are damaged; "
    "a VAE that overflows in float16 may work in float32",
}


class Delivery:
    """A thread that sets futures, so that their callbacks cost the engine no time."""

    def __init__(self) -> None:
        self._errands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="engine-delivery", daemon=True)
        self._thread.start()

    def answers(
        self,
        futures: Sequence[Future[Any]],
        answers: Tensor,
        faults: Tensor,
        again: Callable[[int], None] | None = None,
    ) -> None:
        """`answers` [n, ...], pictures or latents, to `futures`, as soon as the device has them.

        Both are of the current stream.

        Args:
            faults: [n], what is not finite of each: `SOUND`, or else its error is delivered instead.
            again: is given the places of those of which `PICTURE` is not finite, in this thread and in place
                of an error; what it raises is delivered. None: there is no other way to make them.
        """
        host_answers, host_faults, arrived = to_host(answers), to_host(faults), mark(answers.device)

        def deliver() -> None:
            try:
                arrived()
            except Exception as error:  # a device that broke says so only now
                for future in futures:
                    _settle(future.set_exception, error)
                return
            answered = zip(futures, host_answers, host_faults.tolist(), strict=True)
            for place, (future, answer, fault) in enumerate(answered):
                if fault == SOUND:
                    _settle(future.set_result, answer.numpy())
                elif fault == PICTURE and again is not None:
                    try:
                        again(place)
                    except Exception as error:
                        _settle(future.set_exception, error)
                else:
                    _settle(future.set_exception, WorkerError(NOT_FINITE[fault]))

        self._errands.put(deliver)

    def error(self, future: Future[Any], error: BaseException) -> None:
        """`error` to `future`."""
        self._errands.put(lambda: _settle(future.set_exception, error))

    def close(self) -> None:
        """Returns when all that was given has been delivered."""
        self._errands.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (errand := self._errands.get()) is not None:
            errand()


def _settle(set_it: Callable[[Any], None], value: object) -> None:
    with contextlib.suppress(InvalidStateError):  # cancelled meanwhile
        set_it(value)
