"""Noise levels, guidance, names and hashes of models: what needs no network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from img2img_worker.models.checkpoints.noise_schedule import alphas_cumprod
from img2img_worker.models.checkpoints.weights import read_component
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.context_runs import runs_of
from img2img_worker.models.families.family import guide

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def cond(value: float, *, picture: bool = False, tokens: int = 1) -> Condition:
    concat = {"concat": torch.full((4, 1, 1), value)} if picture else {}
    return Condition(tensors={"context": torch.full((tokens, 1), value)} | concat)


def test_abar_is_accumulated_in_float64() -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    wanted = torch.cumprod(1 - betas, 0).float().numpy()
    np.testing.assert_array_max_ulp(alphas_cumprod(SD), wanted, 1)
    assert np.array_equal(alphas_cumprod({}), alphas_cumprod(SD))


def test_linear_and_explicit_betas_are_read() -> None:
    linear = alphas_cumprod(
        {"beta_schedule": "linear", "beta_start": 0.1, "beta_end": 0.3, "num_train_timesteps": 3}
    )
    np.testing.assert_allclose(linear, [0.9, 0.72, 0.504], rtol=1e-6)
    np.testing.assert_array_equal(alphas_cumprod({"trained_betas": [0.1, 0.2, 0.3]}), linear)


def test_a_zero_terminal_snr_model_ends_in_noise_alone() -> None:
    abar = alphas_cumprod(SD | {"rescale_betas_zero_snr": True})
    assert abar[0] == pytest.approx(alphas_cumprod(SD)[0])
    assert 0 < abar[-1] < 1e-7
    assert (np.diff(abar) < 0).all()


def test_guidance_moves_away_from_the_negative_prompt() -> None:
    branches = guide([(cond(1), 1.0)], cond(2), scale=7.0)
    assert [(float(branch.condition.tensors["context"]), branch.weight) for branch in branches] == [
        (1, 7),
        (2, -6),
    ]


def test_a_scale_of_one_runs_no_negative_row() -> None:
    assert [branch.weight for branch in guide([(cond(1), 1.0)], cond(2), scale=1.0)] == [1]


def test_a_scale_of_zero_runs_the_negative_row_alone() -> None:
    (branch,) = guide([(cond(1), 1.0)], cond(2), scale=0.0)
    assert (float(branch.condition.tensors["context"]), branch.weight) == (2, 1)


def test_composed_prompts_pull_by_their_weights() -> None:
    branches = guide([(cond(1), 1.0), (cond(2), 0.5)], cond(3), scale=4.0)
    assert [branch.weight for branch in branches] == [4, 2, -5]


def test_editing_has_a_row_that_sees_neither_prompt_nor_picture() -> None:
    branches = guide([(cond(1, picture=True), 1.0)], cond(2, picture=True), scale=7.0, image_scale=1.5)
    assert [branch.weight for branch in branches] == [7, 1.5 - 7, 1 - 1.5]
    assert [float(branch.condition.tensors["concat"].sum()) for branch in branches] == [4, 8, 0]


def test_an_image_scale_of_one_is_the_plain_rule() -> None:
    pair = [(cond(1, picture=True), 1.0)], cond(2, picture=True)
    with_it, without = guide(*pair, scale=7.0, image_scale=1.0), guide(*pair, scale=7.0)
    assert [branch.weight for branch in with_it] == [branch.weight for branch in without]


def test_rows_are_stacked_tensor_by_tensor() -> None:
    stacked = Conditions.stack([cond(1, picture=True), cond(2, picture=True)])
    assert stacked.context.tolist() == [[[1.0]], [[2.0]]]
    assert stacked.tensors["concat"].shape == (2, 4, 1, 1)
    with pytest.raises(ValueError, match="the same tensors"):
        Conditions.stack([cond(1, picture=True), cond(2)])


def test_rows_of_different_lengths_are_stacked_as_runs() -> None:
    rows = [cond(1), cond(2, tokens=2), cond(3, tokens=2)]
    runs = Conditions.stack(rows).runs
    assert [run.rows for run in runs] == [slice(0, 1), slice(1, 3)]
    assert [run.context[..., 0].tolist() for run in runs] == [[[1]], [[2, 2], [3, 3]]]
    whole = runs_of([row.tensors["context"] for row in rows], whole=True)
    assert [run.context.shape for run in whole] == [(3, 1, 1), (3, 2, 1)]
    assert all(
        torch.equal(other.context[run.rows], run.context) for run, other in zip(runs, whole, strict=True)
    )


def test_weights_in_several_files_and_in_fp16_are_found(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.ones(2)}, tmp_path / "model-00002-of-00002.safetensors")
    index = (
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    )
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert sorted(read_component(tmp_path)) == ["a", "b"]
    half = tmp_path / "half"
    half.mkdir()
    save_file({"c": torch.ones(1)}, half / "diffusion_pytorch_model.fp16.safetensors")
    assert list(read_component(half)) == ["c"]
