"""Recorded calls, with a stand-in for CUDA's graphs: it repeats a call's operations on the same memory."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from img2img_worker.models.families import call_graphs
from img2img_worker.models.families.call_graphs import MADE_FIRST, CallGraphs


class Graph(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """As `torch.cuda.CUDAGraph`: what is computed after the recording lies where it lay then.

    Until a replay, and after that of another graph, what its operations made is not there.
    """

    replayed = 0
    alive: list["Graph"]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self._made: list[Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = function(*args, **(kwargs or {}))
        given = {each.untyped_storage().data_ptr() for each in _tensors((args, kwargs))}
        answers = _tensors(answer)
        new = [each for each in answers if each.untyped_storage().data_ptr() not in given]
        if new or not function.is_view:  # a view needs no computing
            self._operations.append((function, args, kwargs or {}, new))
        self._made += new
        return answer

    def capture_begin(self, **_: Any) -> None:
        self.__enter__()  # type: ignore[no-untyped-call]

    def capture_end(self) -> None:
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        Graph.alive.append(self)
        self._spoil()

    def replay(self) -> None:
        Graph.replayed += 1
        for graph in Graph.alive:
            graph._spoil()
        for function, args, kwargs, new in self._operations:
            answers = _tensors(function(*args, **kwargs))
            if new:
                for place, answer in zip(new, answers, strict=True):
                    place.copy_(answer)

    def _spoil(self) -> None:
        for each in self._made:
            each.fill_(torch.nan)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


class Network(nn.Module):
    """It looks at latents, timesteps, and contexts as a UNet's caller gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3, padding=1)
        self.linear = nn.Linear(5, 4)
        self.calls = 0

    def forward(self, latents: Tensor, t: Tensor, contexts: tuple[tuple[slice, Tensor], ...]) -> Tensor:
        self.calls += 1
        seen = torch.cat([self.linear(context).mean(1)[rows] for rows, context in contexts])
        found: Tensor = F.silu(self.convolution(latents)) * t[:, None, None, None]
        return found.add_(seen[:, :, None, None])


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Graph.replayed, Graph.alive = 0, []
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", object)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(call_graphs, "_has_room", lambda: True)
    torch.manual_seed(1)
    with torch.inference_mode():
        yield


def call(number: int, rows: int = 3, lengths: tuple[int, ...] = (7, 7, 7)) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(number)
    contexts = [torch.randn(rows, length, 5, generator=generator) for length in dict.fromkeys(lengths)]
    whole = slice(0, rows) if len(contexts) == 1 else slice(0, 1), contexts[0]
    runs = [whole, *[(slice(1, rows), context) for context in contexts[1:]]]
    return {
        "latents": torch.randn(rows, 4, 8, 8, generator=generator),
        "t": torch.rand(rows, generator=generator),
        "contexts": tuple(runs),
    }


def test_what_is_replayed_is_what_the_network_answers_to_each_call() -> None:
    network = Network()
    graphs = CallGraphs(network)
    kinds: list[dict[str, Any]] = [{}, {"rows": 2}, {"lengths": (7, 9, 9)}]
    all_given = []
    for number in range(MADE_FIRST + 4):
        for kind in kinds:  # in turn: each graph's replay takes the others' memory
            given = call(number, **kind)
            assert torch.equal(graphs.call("kind", given), network(**given))
            all_given.append((given, call(number, **kind)))
    for given, untouched in all_given:
        assert all(map(torch.equal, _tensors(given), _tensors(untouched)))
    assert len(graphs) == len(kinds)
    assert Graph.replayed == 4 * len(kinds)


def test_calls_of_another_kind_are_recorded_apart_and_see_the_weights_of_their_time() -> None:
    network = Network()
    graphs = CallGraphs(network)
    for _ in range(MADE_FIRST + 1):
        graphs.call("plain", call(1))
    made = network.calls
    network.convolution.weight.mul_(2)
    answer = graphs.call("plain", call(2)).clone()
    assert network.calls == made
    assert torch.equal(answer, network(**call(2)))
    made = network.calls
    graphs.call("tiling", call(1))
    assert network.calls == made + 1


def test_without_memory_nothing_is_kept_and_each_call_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(_graph: Graph, **_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    network = Network()
    graphs = CallGraphs(network)
    for _ in range(MADE_FIRST + 1):
        graphs.call("kind", call(1))
    monkeypatch.setattr(Graph, "capture_begin", short)
    for number in range(MADE_FIRST + 2):
        given = call(number, rows=2)
        assert torch.equal(graphs.call("kind", given), network(**given))
    assert len(graphs) == 0
