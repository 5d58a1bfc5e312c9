"""What was compiled at start is run compiled, and nothing is compiled afterwards."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo import register_backend

from img2img_shared.errors import Refused
from img2img_worker.engine.engine import Engine
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.family import Family
from tests import checkpoints
from tests.unit.engine_toys import render

#: shapes of what the compiled graphs were run with, since they were last forgotten
runs: list[torch.Size] = []
compiled: list[torch.fx.GraphModule] = []


def noting(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Any:  # torch's protocol
    """A backend that runs a graph as it is, and notes that it did."""
    compiled.append(graph)

    def run(*inputs: torch.Tensor) -> object:
        runs.append(next(each.shape for each in inputs if each.ndim == 4))
        return graph.forward(*inputs)

    return run


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.compiler.reset()
    register_backend(noting, name="noting") if "noting" not in torch.compiler.list_backends(()) else None
    runs.clear()
    compiled.clear()
    with torch.compiler.set_stance("eager_on_recompile"):
        yield
    torch.compiler.reset()


@pytest.fixture
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return open_checkpoint(checkpoints.cached(tmp_path_factory, checkpoints.sd1), compiler="noting")


def test_warmed_up_sizes_run_compiled_and_others_as_they_are(
    family: Family, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = open_checkpoint(checkpoints.cached(tmp_path_factory, checkpoints.sd1))
    renders = [render(steps=2), render(1, steps=2, width=96), render(2, steps=2, prompt="cat " * 90)]
    with Engine(plain) as engine:
        expected = [engine.submit(each).result(60) for each in renders]
    with Engine(family) as engine:
        engine.warm_up([(64, 64)]).result(120)
        n = len(compiled)
        assert n == 4  # one row and two, a short prompt and a long one
        runs.clear()
        pictures = [engine.submit(each).result(60) for each in renders]
    assert len(compiled) == n
    assert {shape[-2:] for shape in runs} == {(8, 8)}
    assert len(runs) == 6  # two steps of the first and of the third, whose prompts are of two lengths
    for picture, other in zip(pictures, expected, strict=True):
        assert np.abs(picture.astype(int) - other).max() <= 1


def test_before_a_warm_up_nothing_is_compiled(family: Family) -> None:
    with Engine(family) as engine:
        engine.submit(render(steps=2)).result(60)
    assert not compiled


def test_a_size_that_cannot_be_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    flow = open_checkpoint(checkpoints.cached(tmp_path_factory, checkpoints.sd3))
    with Engine(flow) as engine, pytest.raises(Refused, match="multiples of 16"):
        engine.warm_up([(72, 64)]).result(60)


@pytest.mark.parametrize("size", [(500, 512), (512, 4096), (16, 64)])
def test_a_size_that_no_job_has_is_refused_before_anything_is_compiled(
    size: tuple[int, int], family: Family
) -> None:
    with Engine(family) as engine, pytest.raises(Refused, match="a multiple of 8 from 64 to 2048"):
        engine.warm_up([(64, 64), size]).result(60)
    assert not compiled


def test_closing_an_engine_cancels_a_warm_up_that_has_not_begun(family: Family) -> None:
    engine = Engine(family)
    engine.close()
    assert engine.warm_up([(64, 64)]).cancelled()
