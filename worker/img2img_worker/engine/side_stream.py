"""A GPU's second stream: what is launched there goes on beside the model calls, and holds none of them up."""

from collections import deque
from typing import TypeVar

import torch
from torch import Tensor

from img2img_worker.models.steps import Mark, Steps

T = TypeVar("T")

#: works under way at a time, at most: a stream keeps its order, so that an urgent one waits for all of them
MOST = 4


class SideStream:
    """On a GPU, a stream of its own; on a CPU, nothing.

    A picture is little work beside a model call that fills the device, and goes before it.

    Memory for many works is that of one: they run one after the other, and share what the allocator has for
    their stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _stream(device) if device.type == "cuda" else None
        #: passed when each work is done, or what it waits for, oldest first
        self._marks: deque[Mark] = deque()

    def __bool__(self) -> bool:
        """Whether there is one."""
        return self._stream is not None

    @property
    def is_full(self) -> bool:
        """Whether as much is under way as may be."""
        while self._marks and self._marks[0].query():
            self._marks.popleft()
        return len(self._marks) >= MOST

    def take(self, steps: Steps[T], *given: Tensor) -> Steps[T]:
        """`steps`, as they are; on a GPU all at once, launched beside what the current stream does.

        Those that wait for the device are gone on with later.

        Args:
            given: what they begin with, as the current stream makes it; nothing: they wait for no model call.
        """
        if self._stream is None:
            return (yield from steps)
        if given:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        for tensor in given:  # its memory must not be given to others before they are done
            tensor.record_stream(self._stream)
        while True:
            # left before each yield: it is the thread's, whatever that does next
            with torch.cuda.stream(self._stream):
                try:
                    while (awaited := next(steps)) is None:
                        pass
                except StopIteration as end:
                    mark = torch.Event(self._device)
                    mark.record()
                    self._marks.append(mark)
                    made: T = end.value
                    return made
            if awaited not in self._marks:
                self._marks.append(awaited)
            yield awaited

    def run(self, steps: Steps[T]) -> Steps[T]:
        """As `take`, in its turn and to its end: what comes out is there, for the current stream to use."""
        while self.is_full:
            yield self._marks[0]
        made = yield from self.take(steps)
        if self:
            mark = self._marks[-1]
            while not mark.query():
                yield mark
            if isinstance(made, Tensor) and made.is_cuda:
                made.record_stream(torch.cuda.current_stream(self._device))
        return made

    def latest(self) -> Steps[None]:
        """A step that had better wait for what was launched last."""
        yield self._marks[-1] if self._marks else None

    def wait_for_room(self) -> None:
        """Returns when it is not full."""
        while self.is_full:
            self._marks[0].synchronize()

    def wait(self) -> None:
        """Returns when all is done."""
        if self._stream is not None:
            self._stream.synchronize()


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]  # torch's own
