"""Each kind of LoRA adds what its definition says, written here term by term in float64, without torch."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_worker.models.adapters.lora_file import read_lora
from img2img_worker.models.adapters.low_rank import Adapter
from tests.unit.loras import RANK, tensors

Array = NDArray[np.float64]
Arrays = Mapping[str, Array]
#: a linear layer, a convolution of one pixel and one of 3 × 3, and a linear one that is square
SHAPES = ((16, 8), (8, 16, 1, 1), (8, 16, 3, 3), (8, 8))


def lora(t: Arrays, w: Array) -> Array:
    up, down = matrix(t["lora_up.weight"]), matrix(t["lora_down.weight"])
    total = np.zeros((len(up), down.shape[1]))
    for rank in range(RANK):
        total += np.outer(up[:, rank], down[rank])
    return 2 / RANK * total.reshape(w.shape)


def lora_cp(t: Arrays, w: Array) -> Array:
    up, down, mid = matrix(t["lora_up.weight"]), matrix(t["lora_down.weight"]), t["lora_mid.weight"]
    return 2 / RANK * kernels(w, mid, up.T, down)


def loha(t: Arrays, w: Array) -> Array:
    both = t["hada_w1_a"] @ t["hada_w1_b"] * (t["hada_w2_a"] @ t["hada_w2_b"])
    return 2 / RANK * both.reshape(w.shape)


def loha_tucker(t: Arrays, w: Array) -> Array:
    one, two = (kernels(w, t[f"hada_t{i}"], t[f"hada_w{i}_a"], t[f"hada_w{i}_b"]) for i in (1, 2))
    return 2 / RANK * one * two


def lokr(t: Arrays, w: Array) -> Array:
    return blockwise(t["lokr_w1"], t["lokr_w2"], w)


def lokr_low(t: Arrays, w: Array) -> Array:
    # alpha is shared by the ranks of the second factor
    small = t["lokr_w2_a"] @ t["lokr_w2_b"]
    second = small.reshape(w.shape[0] // 2, w.shape[1] // 2, *w.shape[2:])
    return 2 / RANK * blockwise(t["lokr_w1_a"] @ t["lokr_w1_b"], second, w)


def lokr_mixed(t: Arrays, w: Array) -> Array:
    return 2 / RANK * blockwise(t["lokr_w1_a"] @ t["lokr_w1_b"], t["lokr_w2"], w)


def lokr_tucker(t: Arrays, w: Array) -> Array:
    half = w[: w.shape[0] // 2, : w.shape[1] // 2]
    second = kernels(half, t["lokr_t2"], t["lokr_w2_a"], t["lokr_w2_b"])
    return 2 / RANK * blockwise(t["lokr_w1"], second, w)


def glora(t: Arrays, w: Array) -> Array:
    a1, a2, b1, b2 = (matrix(t[f"{name}.weight"]) for name in ("a1", "a2", "b1", "b2"))
    mixed = np.moveaxis(np.moveaxis(w, 1, -1) @ (a2 @ a1), -1, 1)
    return (b2 @ b1).reshape(w.shape) + mixed


def ia3_out(t: Arrays, w: Array) -> Array:
    return np.stack([row * factor for row, factor in zip(w, t["weight"].ravel(), strict=True)])


def ia3_in(t: Arrays, w: Array) -> Array:
    return np.stack([w[:, i] * factor for i, factor in enumerate(t["weight"].ravel())], axis=1)


def oft(t: Arrays, w: Array) -> Array:
    turned = np.concatenate(
        [
            np.tensordot(cayley(block - block.T).T, rows, 1)
            for block, rows in zip(t["oft_blocks"], np.split(w, 2), strict=True)
        ]
    )
    return turned * t["rescale"].reshape(-1, *[1] * (w.ndim - 1)) - w


def coft(t: Arrays, w: Array) -> Array:
    skew = t["oft_blocks"] - t["oft_blocks"].transpose(0, 2, 1)
    bound = 1e-3 * len(w)
    assert np.sqrt((skew**2).sum()) > 2 * bound
    skew *= bound / np.sqrt((skew**2).sum())
    rows = zip(skew, np.split(w, 2), strict=True)
    return np.concatenate([np.tensordot(cayley(block).T, part, 1) for block, part in rows]) - w


def oft_diag(t: Arrays, w: Array) -> Array:
    rows = zip(t["oft_diag"], np.split(w, 2), strict=True)
    return np.concatenate([np.tensordot(block.T, part, 1) for block, part in rows]) - w


def boft(t: Arrays, w: Array) -> Array:
    whole = np.eye(len(w))
    for stage, blocks in enumerate(t["oft_blocks"]):
        half = 2 * 2**stage
        order = [
            start + 2 * half * group
            for group in range(len(w) // (2 * half))
            for place in range(half)
            for start in (place, place + half)
        ]
        turn = np.zeros_like(whole)
        for number, block in enumerate(blocks):
            turn[4 * number : 4 * number + 4, 4 * number : 4 * number + 4] = cayley(block - block.T)
        shuffle = np.eye(len(w))[order]
        whole = shuffle.T @ turn @ shuffle @ whole
    np.testing.assert_allclose(whole @ whole.T, np.eye(len(w)), atol=1e-6)
    return np.tensordot(whole, w, 1) - w


def full(t: Arrays, _: Array) -> Array:
    return t["diff"]


def matrix(kernel: Array) -> Array:
    return kernel.reshape(len(kernel), -1)


def kernels(w: Array, core: Array, a: Array, b: Array) -> Array:
    """Σ core[i, j] · a[i] ⊗ b[j], a pixel of the kernel at a time."""
    total = np.zeros(w.shape)
    for y, x in np.ndindex(*w.shape[2:]):
        total[:, :, y, x] = a.T @ core[:, :, y, x] @ b
    return total


def blockwise(first: Array, second: Array, w: Array) -> Array:
    """Each number of the first times all of the second."""
    total = np.zeros(w.shape)
    rows, columns = second.shape[:2]
    for i, j in np.ndindex(*first.shape):
        total[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns] = first[i, j] * second
    return total


def cayley(skew: Array) -> Array:
    eye = np.eye(len(skew))
    rotation = (eye + skew) @ np.linalg.inv(eye - skew)
    np.testing.assert_allclose(rotation @ rotation.T, eye, atol=1e-6)
    return rotation


DENSE: dict[str, Callable[[Arrays, Array], Array]] = {
    "lora": lora,
    "lora cp": lora_cp,
    "loha": loha,
    "loha tucker": loha_tucker,
    "lokr": lokr,
    "lokr low": lokr_low,
    "lokr mixed": lokr_mixed,
    "lokr tucker": lokr_tucker,
    "glora": glora,
    "ia3 out": ia3_out,
    "ia3 in": ia3_in,
    "oft": oft,
    "coft": coft,
    "oft diag": oft_diag,
    "boft": boft,
    "full": full,
}
CASES = [
    (kind, shape)
    for kind in DENSE
    for shape in SHAPES
    if len(shape) == 4 or kind.split()[-1] not in ("cp", "tucker")
]


def weight(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def adapter(path: Path, parts: Mapping[str, Tensor]) -> Adapter:
    """Through a file, as a worker gets it."""
    save_file({f"lora_unet_mid.{part}": tensor for part, tensor in parts.items()}, path / "ink.safetensors")
    (found,) = read_lora(path / "ink.safetensors").values()
    return found


def arrays(parts: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: tensor.numpy().astype(np.float64) for name, tensor in parts.items()}


def assert_close(found: Tensor, wanted: Array) -> None:
    assert np.abs(wanted).max() > 2e-3
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-5)


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_a_kind_adds_what_its_definition_says(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    parts, w = tensors(kind, shape, seed=7), weight(shape)
    found = adapter(tmp_path, parts).difference(w)
    assert found.shape == w.shape
    assert_close(found, DENSE[kind](arrays(parts), w.numpy().astype(np.float64)))


@pytest.mark.parametrize(("kind", "shape"), CASES)
@pytest.mark.parametrize("axis", [0, 1], ids=["by rows", "by columns"])
def test_dora_gives_the_changed_weight_its_own_magnitudes(
    tmp_path: Path, kind: str, shape: tuple[int, ...], axis: int
) -> None:
    parts, w = tensors(kind, shape, seed=7), weight(shape)
    sizes = [size if place == axis else 1 for place, size in enumerate(shape)]
    parts["dora_scale"] = 1 + torch.rand(sizes, generator=torch.Generator().manual_seed(1))
    found = adapter(tmp_path, parts).difference(w)
    before = w.numpy().astype(np.float64)
    changed = before + DENSE[kind](arrays(parts), before)
    lines = np.moveaxis(changed, axis, 0)
    lines = np.stack(
        [
            line / np.sqrt((line**2).sum()) * m
            for line, m in zip(lines, arrays(parts)["dora_scale"].ravel(), strict=True)
        ]
    )
    assert_close(found, np.moveaxis(lines, 0, axis) - before)


def test_pefts_magnitudes_are_those_of_rows(tmp_path: Path) -> None:
    parts, w = tensors("lora", (16, 8), seed=7), weight((16, 8))
    del parts["alpha"]
    magnitude = 1 + torch.rand(16, generator=torch.Generator().manual_seed(1))
    kohya = adapter(tmp_path, parts | {"dora_scale": magnitude[:, None]}).difference(w)
    peft = {
        "unet.mid.lora_A.weight": parts["lora_down.weight"],
        "unet.mid.lora_B.weight": parts["lora_up.weight"],
    }
    for ending in ("", ".weight"):
        save_file(peft | {f"unet.mid.lora_magnitude_vector{ending}": magnitude}, tmp_path / "p.safetensors")
        (found,) = read_lora(tmp_path / "p.safetensors").values()
        assert torch.equal(found.difference(w), kohya)


@pytest.mark.parametrize("kind", [kind for kind in DENSE if kind not in ("oft", "coft", "oft diag", "boft")])
def test_a_scale_of_its_own_stands_for_alpha(tmp_path: Path, kind: str) -> None:
    shape = (8, 16, 3, 3)
    parts, w = tensors(kind, shape, seed=7), weight(shape)
    dense = DENSE[kind](arrays(parts), w.numpy().astype(np.float64))
    ranks = kind.startswith("lo") and kind != "lokr"
    found = adapter(tmp_path, parts | {"scale": torch.tensor(0.5)}).difference(w)
    assert_close(found, dense * 0.5 / (2 / RANK if ranks else 1))


def test_a_bias_of_the_weights_shape_is_added_before_the_scale(tmp_path: Path) -> None:
    parts, w = tensors("lora", (16, 8), seed=7), weight((16, 8))
    more = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    found = adapter(tmp_path, parts | {"bias": more}).difference(w)
    assert_close(found, lora(arrays(parts), w.numpy()) + 2 / RANK * more.numpy().astype(np.float64))


def test_without_alpha_oft_is_not_bound_nor_with_alpha_zero(tmp_path: Path) -> None:
    parts, w = tensors("coft", (16, 8), seed=7), weight((16, 8))
    bound = adapter(tmp_path, parts).difference(w)
    free = adapter(tmp_path, {"oft_blocks": parts["oft_blocks"]}).difference(w)
    assert not torch.allclose(bound, free, atol=1e-2)
    assert torch.equal(adapter(tmp_path, parts | {"alpha": torch.tensor(0.0)}).difference(w), free)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("rank", "left"), [(1, [0]), (2, [0, 1]), (9, [0, 1, 2]), (0, []), (-1, [0, 1])])
def test_dyn_takes_the_first_ranks_at_the_scale_of_all(
    tmp_path: Path, shape: tuple[int, ...], rank: int, left: list[int]
) -> None:
    parts, w = tensors("lora", shape, seed=7), weight(shape)
    up, down = (matrix(arrays(parts)[f"lora_{name}.weight"]) for name in ("up", "down"))
    wanted = 2 / RANK * up[:, left] @ down[left]
    found = adapter(tmp_path, parts).cut(rank).difference(w)
    np.testing.assert_allclose(found.numpy(), wanted.reshape(shape), atol=2e-5)


def test_dyn_leaves_other_kinds_as_they_are(tmp_path: Path) -> None:
    for kind in ("lora cp", "loha", "lokr low", "full"):
        whole = adapter(tmp_path, tensors(kind, (8, 16, 3, 3), seed=7))
        assert whole.cut(1) is whole


def test_precision_is_that_of_single_floats_whatever_the_files_is(tmp_path: Path) -> None:
    parts, w = tensors("loha", (16, 8), seed=7), weight((16, 8))
    halves = {name: tensor.to(torch.bfloat16) for name, tensor in parts.items()}
    singles = {name: tensor.float() for name, tensor in halves.items()}
    assert torch.equal(adapter(tmp_path, halves).difference(w), adapter(tmp_path, singles).difference(w))


def without(parts: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {part: tensor for part, tensor in parts.items() if part != name}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("lora", "lora_up.weight"),
        ("loha", "hada_w2_b"),
        ("lokr low", "lokr_w1_b"),
        ("lokr tucker", "lokr_w2_a"),
        ("glora", "alpha"),
        ("ia3 in", "on_input"),
        ("full", "diff"),
        ("norm", "b_norm"),
    ],
)
def test_a_part_that_is_missing_is_named(tmp_path: Path, kind: str, name: str) -> None:
    shape = (8,) if kind == "norm" else (8, 16, 3, 3)
    parts = without(tensors(kind, shape, seed=7), name)
    with pytest.raises(Refused, match=rf"the file has lora_unet_mid.*each layer needs .*{name}"):
        adapter(tmp_path, parts)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("bm.weight", torch.ones(3, 3)),
        ("lora_B.bias", torch.ones(16)),
        ("bias_indices", torch.ones(2, 3)),
        ("hada_w1_a", torch.ones(1)),
        ("rescale", torch.ones(16)),
        ("lora_down.default.weight", torch.ones(3, 8)),
    ],
)
def test_a_part_that_is_not_known_is_named(tmp_path: Path, part: str, value: Tensor) -> None:
    with pytest.raises(Refused, match=part):
        adapter(tmp_path, tensors("lora", (16, 8), seed=7) | {part: value})


@pytest.mark.parametrize("key", ["emb_params", "a.b.c"])
def test_a_key_that_is_no_layers_is_named(tmp_path: Path, key: str) -> None:
    save_file({key: torch.ones(2, 8)}, tmp_path / "ink.safetensors")
    with pytest.raises(Refused, match=f"tensor {key} is unknown"):
        read_lora(tmp_path / "ink.safetensors")
