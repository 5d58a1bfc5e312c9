"""Images with different LoRAs in one engine: each gets its own, and no other image notices."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.prompt_tags import Lora
from img2img_worker.engine.engine import Engine, Pixels, Render
from img2img_worker.models.adapters.patch import NO_PATCH
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.condition import Conditions
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from tests import checkpoints
from tests.checkpoints import embedded
from tests.unit.engine_toys import render
from tests.unit.loras import TEXT, UNET, merge, write_kinds, write_kohya

#: none, two sets, both together, other weights, text only, denoiser only, other kinds, fewer ranks
PROMPTS = (
    "the cat",
    "the cat <lora:ink:1>",
    "the cat <lora:gold:0.7>",
    "the cat <lora:gold:0.7><lora:ink:0.4>",
    "the cat <lora:ink:0.5>",
    "the cat <lora:words:1>",
    "the cat <lora:ink:0:1>",
    "the cat <lora:ink:0>",
    "<lora:gold:0.7> the cat",
    "the cat <lora:odd:0.5>",
    "the cat <lora:odd:0.5><lora:ink:0.3>",
    "the cat <lora:ink:0.3><lora:odd:0.5>",
    "the cat <lora:ink:dyn=1>",
)
#: kinds that depend on the weight and on what is worn with them, that change biases, and others
ODD = {
    "conv_in": "full",
    "down_blocks.0.attentions.0.proj_in": "oft",
    "down_blocks.0.attentions.0.norm": "norm",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": "glora",
    "mid_block.resnets.0.conv1": "ia3 in",
    "up_blocks.1.attentions.1.transformer_blocks.0.attn1.to_out.0": "lokr low",
    "up_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj": "loha",
}


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.cached(tmp_path_factory, checkpoints.sd1)


@pytest.fixture(scope="module")
def folder(sd1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "Lora"
    family = opened(sd1)
    write_kohya(folder / "ink.safetensors", family.unet, UNET, seed=10)
    write_kohya(folder / "gold.safetensors", family.unet, UNET[1:4], seed=30)
    write_kinds(folder / "odd.safetensors", family.unet, ODD, seed=40)
    write_kohya(folder / "words.safetensors", family.texts[0].model, TEXT, seed=20)
    return folder


def opened(path: Path, folder: Path | None = None) -> StableDiffusion:
    family = open_checkpoint(path, lora_folder=folder)
    assert isinstance(family, StableDiffusion)
    return family


def renders(prompts: tuple[str, ...] = PROMPTS) -> list[Render]:
    return [
        render(number, prompt=prompt, steps=2 + number % 2, denoising_strength=(1, 0.6)[number % 2])
        for number, prompt in enumerate(prompts)
    ]


def run(engine: Engine, some: list[Render]) -> list[Pixels]:
    return [future.result(60) for future in [engine.submit(each) for each in some]]


def test_in_mixed_company_every_picture_is_to_the_byte_what_it_is_alone(sd1: Path, folder: Path) -> None:
    alone = []
    for each in renders():
        with Engine(opened(sd1, folder), slots=1, deterministic=True) as engine:
            alone += run(engine, [each])
    with Engine(opened(sd1, folder), slots=4, deterministic=True) as engine:
        for order in (range(len(alone)), reversed(range(len(alone)))):
            numbers = list(order)
            for number, picture in zip(
                numbers, run(engine, [renders()[number] for number in numbers]), strict=True
            ):
                assert np.array_equal(picture, alone[number]), PROMPTS[number]


def test_what_is_worn_together_acts_in_its_order(sd1: Path, folder: Path) -> None:
    """As in A1111, where a LoRA that depends on the weight sees what those before it made of it."""
    same = [
        replace(each, seed=1, pixels=renders()[0].pixels, params=renders()[0].params) for each in renders()
    ]
    with Engine(opened(sd1, folder), slots=4, deterministic=True) as engine:
        pictures = dict(zip(PROMPTS, run(engine, same), strict=True))
    first, second = (pictures[f"the cat {tags}"] for tags in (PROMPTS[10][8:], PROMPTS[11][8:]))
    assert not np.array_equal(first, second)
    assert not np.array_equal(pictures["the cat <lora:ink:dyn=1>"], pictures["the cat <lora:ink:1>"])


def test_loras_act_and_what_names_none_is_what_a_worker_without_any_renders(sd1: Path, folder: Path) -> None:
    prompts = (*PROMPTS[:7], "the cat <lora:ink:0>", "the cat")
    same = [replace(each, seed=1, pixels=renders()[0].pixels) for each in renders(prompts)]
    same = [replace(each, params=same[0].params) for each in same]
    with Engine(opened(sd1), deterministic=True) as engine:
        (plain,) = run(engine, same[:1])
    with Engine(opened(sd1, folder), slots=9, deterministic=True) as engine:
        pictures = run(engine, same)
    assert all(np.array_equal(pictures[number], plain) for number in (0, 7, 8))
    others = {picture.tobytes() for picture in pictures[:7]}
    assert len(others) == 6  # what acts on the denoiser alone is equal, whatever it says to a text encoder
    assert np.array_equal(pictures[1], pictures[6])


def test_a_picture_is_that_of_a_checkpoint_merged_by_hand(sd1: Path, folder: Path) -> None:
    merged = opened(sd1)
    merge(merged.unet, UNET, seed=10, scale=0.4)
    merge(merged.unet, UNET[1:4], seed=30, scale=0.7)
    merge(merged.texts[0].model, TEXT, seed=20, scale=0.5)
    tags = "<lora:ink:0.4><lora:gold:0.2:0.7><lora:words:0.5>"
    with Engine(merged) as engine:
        (wanted,) = run(engine, renders(("the cat",)))
    with Engine(opened(sd1, folder)) as engine:
        (found,) = run(engine, renders((f"the {tags}cat",)))
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_a_prompt_may_be_read_with_another_ones_loras(sd1: Path, folder: Path) -> None:
    """As in A1111's hires fix, with `hires_fix_use_firstpass_conds`."""
    (plain,) = renders(("the cat <lora:ink:1><lora:words:0>",))
    with Engine(opened(sd1, folder)) as engine:
        read, wanted, other = run(
            engine,
            [
                replace(plain, read_with="a dog <lora:words:0.5><lora:gold:1>"),
                replace(plain, prompt="the cat <lora:ink:1><lora:words:0.5>"),
                plain,
            ],
        )
    np.testing.assert_array_equal(read, wanted)
    assert not np.array_equal(read, other)


def calls_of(
    engine: Engine, prompts: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[tuple[str, ...], int]]:
    """What was merged, and how many rows there were, in each model call of images with these prompts."""
    calls: list[tuple[tuple[str, ...], int]] = []
    all_are_there = threading.Event()

    def predict(
        self: StableDiffusion, x: torch.Tensor, t: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        all_are_there.wait(60)
        calls.append((tuple(Path(key[0]).stem for key in conditions.patch.key), len(x)))
        return whole(self, x, t, conditions)

    whole = StableDiffusion.predict
    monkeypatch.setattr(StableDiffusion, "predict", predict)
    futures = [engine.submit(render(number, prompt=prompt, steps=3)) for number, prompt in enumerate(prompts)]
    all_are_there.set()
    for future in futures:
        future.result(60)
    return calls


MIXED = ("a", "b <lora:ink:1>", "c <lora:ink:1>", "d <lora:gold:0.5>", "e <lora:gold:1>", "f")


def test_images_of_different_loras_share_model_calls(
    sd1: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(opened(sd1, folder), slots=6, deterministic=False) as engine:
        assert ((), 12) in calls_of(engine, MIXED, monkeypatch)


def test_what_depends_on_the_weights_is_merged_for_rows_of_its_own(
    sd1: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = (*MIXED[:3], "d <lora:odd:0.5>", "e <lora:odd:0.5>", "f <lora:odd:0.5><lora:ink:1>")
    with Engine(opened(sd1, folder), slots=6, deterministic=False) as engine:
        calls = calls_of(engine, prompts, monkeypatch)
    assert {((), 6), (("odd",), 4), (("odd", "ink"), 2)} <= set(calls)


def test_in_deterministic_mode_all_are_merged(
    sd1: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(opened(sd1, folder), slots=6, deterministic=True) as engine:
        calls = calls_of(engine, MIXED, monkeypatch)
    # those of one LoRA with one weight may share calls; gold has two
    assert {names for names, _ in calls} == {(), ("ink",), ("gold",)}
    assert {rows for names, rows in calls if names == ("gold",)} == {2}


def test_in_mixed_company_a_picture_is_to_rounding_what_it_is_alone(sd1: Path, folder: Path) -> None:
    with Engine(opened(sd1, folder), slots=1, deterministic=True) as engine:
        alone = run(engine, renders())
    with Engine(opened(sd1, folder), slots=len(PROMPTS), deterministic=False) as engine:
        together = run(engine, renders())
    for prompt, found, wanted in zip(PROMPTS, together, alone, strict=True):
        assert np.abs(found.astype(int) - wanted).max() <= 1, prompt


def test_rows_of_different_sets_cannot_be_stacked(sd1: Path, folder: Path) -> None:
    family = opened(sd1, folder)
    text = embedded(family, "the cat")
    patch = family.loras.find([Lora(name="ink")]).denoiser
    plain, other = (family.condition(text, Params(), patch=each) for each in (NO_PATCH, patch))
    with pytest.raises(ValueError, match="change the denoiser alike"):
        Conditions.stack([plain, other])


def test_a_lora_that_is_not_there_fails_its_image_alone(sd1: Path, folder: Path) -> None:
    with Engine(opened(sd1, folder), slots=2) as engine:
        good = [engine.submit(each) for each in renders(PROMPTS[:2])]
        with pytest.raises(Refused, match=r"'oil'.*gold, ink, odd, words"):
            engine.submit(render(prompt="the cat <lora:oil:1>"))
        for future in good:
            future.result(60)
