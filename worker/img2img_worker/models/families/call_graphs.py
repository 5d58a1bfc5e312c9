"""Records a network's calls as CUDA graphs: calls of few rows take less time than launching their kernels."""

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

log = logging.getLogger(__name__)

#: calls of one kind that are made without recording: fewer are not worth it, and the first one compiles
#: kernels and chooses algorithms, which is not possible during a recording
MADE_FIRST = 2
#: graphs that are kept, and kinds of calls that are counted; the least recently used go first
MOST, COUNTED = 64, 256
#: cells of all rows' latents up to which a call is recorded: with more, launches are not what takes the time
CELLS = 2**17
#: share of the device's memory that must be free for a recording: graphs keep their intermediate tensors
FREE = 0.25


@dataclass(frozen=True, eq=False)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    given: Sequence[Tensor]
    answer: Tensor


class CallGraphs:
    """Calls of `network`, which are recorded when they recur with the same shapes, and replayed from then on.

    A graph computes what the recorded call did, to the bit, with the current weights. It runs no hooks: what
    these depend on must be in the `kind` of the call, or the call must not be made here.

    Args:
        network: returns one tensor, and does not wait for the device.
    """

    def __init__(self, network: Callable[..., Tensor]) -> None:
        self._network = network
        self._records = True
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        self._recorded: OrderedDict[Hashable, _Recorded] = OrderedDict()
        self._stream: torch.cuda.Stream | None = None
        #: the graphs' memory, which they share: one runs at a time
        self._pool: Any = None

    def __len__(self) -> int:
        """How many calls are recorded."""
        return len(self._recorded)

    def call(self, kind: Hashable, arguments: dict[str, Any]) -> Tensor:
        """``network(**arguments)``; later calls overwrite the tensor that it returns.

        Args:
            kind: what the result depends on beside the arguments and the weights.
            arguments: tensors on a GPU, among them `latents` [R, C, h, w], and other values, in any nesting.
        """
        leaves, form = pytree.tree_flatten(arguments)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        key = (kind, str(form), *(_signature(leaf) for leaf in leaves))
        latents: Tensor = arguments["latents"]
        if not self._records or latents[:, 0].numel() > CELLS or not self._comes_again(key):
            return self._network(**arguments)
        if key not in self._recorded and not (_has_room() and self._try_to_record(key, leaves, form)):
            return self._network(**arguments)
        self._recorded.move_to_end(key)
        recorded = self._recorded[key]
        for to, tensor in zip(recorded.given, tensors, strict=True):
            to.copy_(tensor)
        recorded.graph.replay()
        return recorded.answer

    def forget(self) -> None:
        """Free the graphs' memory; calls are recorded anew when they recur."""
        if self._recorded:
            torch.cuda.synchronize()
        self._recorded.clear()
        self._seen.clear()
        self._pool = None

    def _comes_again(self, key: Hashable) -> bool:
        calls = self._seen.pop(key, 0)
        self._seen[key] = calls + 1
        if len(self._seen) > COUNTED:
            self._seen.popitem(last=False)
        return calls >= MADE_FIRST

    def _try_to_record(self, key: Hashable, leaves: Sequence[Any], form: Any) -> bool:
        """Record a call; whether that worked. Without a graph, the call is made as usual."""
        try:
            self._recorded[key] = self._record(leaves, form)
        except torch.OutOfMemoryError:
            self.forget()
            return False
        except RuntimeError as error:
            log.warning("a call could not be recorded (%s); no more are", str(error).splitlines()[0])
            self._records = False
            return False
        self._forget_oldest()
        return True

    def _record(self, leaves: Sequence[Any], form: Any) -> _Recorded:
        given = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        arguments = pytree.tree_unflatten(given, form)
        if self._stream is None or self._pool is None:
            self._stream, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()  # type: ignore[no-untyped-call]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):
            # other threads, such as the one that delivers pictures, may use the device meanwhile
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                answer = self._network(**arguments)
            except BaseException:
                with contextlib.suppress(RuntimeError):  # what was recorded so far is of no use
                    graph.capture_end()
                raise
            graph.capture_end()
        return _Recorded(graph, [leaf for leaf in given if isinstance(leaf, Tensor)], answer)

    def _forget_oldest(self) -> None:
        while len(self._recorded) > MOST:
            torch.cuda.synchronize()
            key, _ = self._recorded.popitem(last=False)
            self._seen.pop(key, None)


def _has_room() -> bool:
    free, total = torch.cuda.mem_get_info()
    unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return free + unused >= FREE * total


def _signature(leaf: Any) -> Hashable:
    """What a recording depends on of an argument: a tensor's shape, strides and type, or any other value."""
    if isinstance(leaf, Tensor):
        return (leaf.shape, leaf.stride(), leaf.dtype)
    return (leaf.start, leaf.stop) if isinstance(leaf, slice) else leaf
