"""In deterministic mode on a CPU, images share the calls that were seen to leave their bits alone."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.activations import GEGLU
from torch import Tensor, nn

from img2img_shared.control import ControlUnit
from img2img_worker.engine import exact_sharing
from img2img_worker.engine.engine import Engine, Pixels, Render
from img2img_worker.engine.model_call import Layout, Part
from img2img_worker.engine.render import Control
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.family import Family
from img2img_worker.models.families.multi_head_attention import attend, split_heads
from img2img_worker.models.families.row_by_row import answer_row_by_row
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from img2img_worker.models.families.unet import as_published
from tests import checkpoints
from tests.unit.control_files import control_net, write_original
from tests.unit.engine_toys import ToyFamily, contexts, render
from tests.unit.loras import UNET, write_kohya


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes together is tried the first time."""
    monkeypatch.setattr(exact_sharing, "PATIENCE", 0)


@dataclass(kw_only=True)
class RowByRowFamily(ToyFamily):
    """One that answers rows as if each were alone, and adds what depends on how many there are."""

    drift: Callable[[int], float] = lambda _: 0.0
    #: how many rows each call had
    calls: list[int] = field(default_factory=list)

    def predict(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        self.calls.append(len(x))
        rows = [Conditions.stack([Condition(tensors={"context": each})]) for each in contexts(conditions)]
        answers = [ToyFamily.predict(self, x[i : i + 1], t[i : i + 1], row) for i, row in enumerate(rows)]
        return torch.cat(answers) + self.drift(len(x))


def pictures(engine: Engine, renders: Sequence[Render]) -> list[Pixels]:
    """What becomes of renders that are all there before the first has its call."""
    held = threading.Event()

    def hold(_done: int, _total: int) -> None:
        held.wait()

    futures = [engine.submit(renders[0], hold)]
    futures += [engine.submit(each) for each in renders[1:]]
    held.set()
    return [future.result() for future in futures]


def each_alone(family: Family, renders: Sequence[Render]) -> list[Pixels]:
    with Engine(family, slots=1) as engine:
        return [pictures(engine, [each])[0] for each in renders]


def of_toys(family: RowByRowFamily, renders: Sequence[Render]) -> list[int]:
    """Rows of the calls in which `renders` were made together, whose bytes are those of each alone."""
    alone = each_alone(family, renders)
    family.calls.clear()
    with Engine(family, slots=len(renders)) as engine:
        together = pictures(engine, renders)
        assert engine.counts.calls == len(family.calls)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(other, one)
    return family.calls


def toys(n: int, cfg_scale: float = 7) -> list[Render]:
    return [render(i, steps=20, denoising_strength=1, cfg_scale=cfg_scale) for i in range(n)]


def test_what_was_tried_once_is_shared_from_then_on(threads: object) -> None:
    calls = of_toys(RowByRowFamily(), toys(4))
    # beside the calls of eight rows, those of an image alone, and those in which the others were tried
    assert calls.count(8) > 1
    assert len(calls) < 60


def test_what_seldom_comes_together_is_not_tried(threads: object) -> None:
    few = [replace(each, params=each.params.model_copy(update={"steps": 4})) for each in toys(3)]
    assert set(of_toys(RowByRowFamily(), few)) == {2}


def test_what_had_other_bits_is_not_shared_again(threads: object) -> None:
    calls = of_toys(RowByRowFamily(drift=lambda rows: 0.01 * (rows > 2)), toys(3))
    assert calls.count(2) == 60
    # of three images, and of two
    assert 1 <= calls.count(6) + calls.count(4) == len({*calls} - {2})


def test_rows_that_are_others_in_company_keep_nobody_else_from_sharing(threads: object) -> None:
    renders = [*toys(1, cfg_scale=1), *toys(3)]
    calls = of_toys(RowByRowFamily(drift=lambda rows: 0.01 * (rows == 1)), renders)
    assert calls.count(1) == 20
    assert all(calls.count(odd) <= 1 for odd in (3, 5, 7))
    assert calls.count(6) > 1


def test_large_latents_and_what_is_compiled_have_calls_of_their_own(
    threads: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(of_toys(RowByRowFamily(is_compiled=True), toys(3))) == {2}
    monkeypatch.setattr(exact_sharing, "LARGE", 64)
    assert set(of_toys(RowByRowFamily(), toys(3))) == {2}


def test_an_image_with_calls_of_its_own_is_laid_out_once(
    threads: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    lay_out = Layout.of

    def counted(parts: Sequence[Part], *more: Any) -> Layout:
        made.append(len(parts))
        return lay_out(parts, *more)

    monkeypatch.setattr(Layout, "of", counted)
    with Engine(RowByRowFamily(is_compiled=True), slots=3) as engine:
        pictures(engine, toys(3))
    assert made == [1, 1, 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    checkpoint = checkpoints.cached(tmp_path_factory, checkpoints.sd1)
    write_original(control_net(checkpoint, 3), folder / "edges.safetensors")
    write_kohya(folder / "ink.safetensors", opened(checkpoint).unet, UNET, seed=10)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> StableDiffusion:
    return opened(checkpoints.cached(tmp_path_factory, checkpoints.sd1), folder)


def opened(checkpoint: Path, folder: Path | None = None) -> StableDiffusion:
    folders = () if folder is None else (folder,)
    family = open_checkpoint(checkpoint, lora_folder=folder, control_folders=folders)
    assert isinstance(family, StableDiffusion)
    return family


def company() -> list[Render]:
    """Eight images of other prompts, sizes, strengths, samplers and LoRAs, of which two are controlled."""
    control = Control(unit=ControlUnit(model="edges"), picture=np.full((64, 64, 3), 90, np.uint8))
    many = [
        replace(
            render(
                number,
                prompt=("the cat", "red " * 80, "the cat AND red dog BREAK cat:0.5")[number % 3],
                width=(64, 72)[number // 6],
                steps=3 + number % 2,
                denoising_strength=(1, 0.7)[number % 2],
                sampler_name=("Euler a", "DPM++ 2M", "Euler")[number % 3],
                cfg_scale=(7, 1)[number == 5],
            ),
            controls=(control,) if number in (1, 2) else (),
        )
        for number in range(8)
    ]
    return [
        replace(each, prompt=f"{each.prompt} <lora:ink:1>") if i % 4 == 3 else each
        for i, each in enumerate(many)
    ]


@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_picture_is_to_the_byte_what_it_is_alone_among_any_others(
    small: StableDiffusion, at_once: None, threads: Callable[[int], None], n_threads: int
) -> None:
    threads(n_threads)
    renders = company()
    alone = each_alone(small, renders)
    with Engine(small, slots=8) as engine:
        for n in (8, 3, 8):
            for one, other in zip(alone, pictures(engine, renders[:n]), strict=False):
                np.testing.assert_array_equal(other, one)


def test_so_it_is_with_a_network_of_published_widths(
    small: StableDiffusion, at_once: None, threads: object
) -> None:
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(320, 320),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=small.unet.config.cross_attention_dim,
    )
    as_published(unet)
    answer_row_by_row(unet)
    family = replace(small, unet=unet.eval().requires_grad_(False))
    renders = [render(number, width=72, steps=2, denoising_strength=1) for number in range(2)]
    alone = each_alone(family, renders)
    with Engine(family, slots=2) as engine:
        for _ in range(2):
            for one, other in zip(alone, pictures(engine, renders), strict=True):
                np.testing.assert_array_equal(other, one)


@pytest.mark.parametrize(
    ("layer", "shape", "n_threads"),
    [
        (nn.Linear(320, 1280), (320,), 1),
        (nn.Linear(320, 1280), (3, 320), 1),
        (nn.Linear(320, 1280), (320,), 2),
        (nn.SiLU(), (960, 9, 7), 4),
        (GEGLU(32, 128), (256, 32), 3),
        (nn.Conv2d(4, 320, 3, padding=1), (4, 9, 7), 1),
        (nn.Conv2d(32, 64, 1), (32, 9, 7), 2),
        (nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.GroupNorm(32, 64)), (64, 5, 4), 1),
    ],
    ids=str,
)
def test_layers_that_depend_on_how_many_rows_there_are_answer_as_if_alone(
    threads: Callable[[int], None], layer: nn.Module, shape: tuple[int, ...], n_threads: int
) -> None:
    threads(n_threads)
    answer_row_by_row(layer)
    rows = torch.randn(7, *shape, generator=torch.Generator().manual_seed(1))
    assert_answers_as_alone(layer, rows)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("n_queries", [1, 2, 3, 4])
def test_attention_of_few_queries_answers_a_picture_as_if_alone(
    threads: Callable[[int], None], n_queries: int, n_threads: int
) -> None:
    threads(n_threads)
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(8, n_queries, 320, generator=generator)
    key, value = torch.randn(2, 8, 77, 320, generator=generator)
    together = attend(split_heads(query, 8), key, value)
    for start in range(0, 8, 2):
        own = slice(start, start + 2)
        assert torch.equal(together[own], attend(split_heads(query[own], 8), key[own], value[own]))


def test_the_embedding_of_a_rows_time_does_not_depend_on_the_others(
    small: StableDiffusion, threads: object
) -> None:
    embedding, times = small.unet.time_embedding, torch.randn(8, small.unet.config.block_out_channels[0])
    assert_answers_as_alone(embedding, times)


def assert_answers_as_alone(network: nn.Module, rows: Tensor) -> None:
    with torch.inference_mode():
        together = network(rows)
        assert all(torch.equal(together[i : i + 1], network(rows[i : i + 1])) for i in range(len(rows)))
