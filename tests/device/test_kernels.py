"""Our kernels give the answers of torch's own layers: on a GPU, or on a CPU if Triton interprets them."""

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

knobs = pytest.importorskip("triton").knobs
from img2img_worker.models.adapters.products import _Sender, _terms_of  # noqa: E402
from img2img_worker.models.adapters.row_table import Entry, RowTable, Scaled  # noqa: E402
from img2img_worker.models.families.triton_kernels import (  # noqa: E402
    add_products,
    doubled,
    gated,
    group_norm,
    layer_norm,
    summed,
)
from tests.unit.test_lora_products import product  # noqa: E402

IS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if IS_GPU else "cpu"

pytestmark = pytest.mark.skipif(
    not (IS_GPU or knobs.runtime.interpret), reason="there is no GPU, and Triton does not interpret"
)

#: shapes of pictures [R, C, H, W]: with channels that are no power of two, of a single pixel, and with more
#: parts than are added up at a time
SHAPES = [(2, 48, 5, 3), (2, 32, 1, 1), (1, 16, 33, 34)]
#: shapes that take Triton's interpreter minutes
LARGE = [(2, 320, 9, 7), (3, 960, 4, 4), (1, 128, 96, 100), (1, 32, 2048, 2056)]
#: largest accepted difference, absolute and relative
TOLERANCE = {torch.float32: 2e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@pytest.fixture(autouse=True)
def same_each_time() -> Iterator[None]:
    """The same random numbers each time, and convolutions of float32 in full precision, not in TF32."""
    torch.manual_seed(1)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES + LARGE if IS_GPU else SHAPES, ids=str)
@pytest.mark.parametrize(("silu", "adds"), [(False, 0), (True, 1), (True, 2)])
def test_a_group_norm_answers_like_torchs(
    dtype: torch.dtype, shape: tuple[int, int, int, int], silu: bool, adds: int
) -> None:
    rows, channels = shape[:2]
    x = torch.randn(shape, device=DEVICE) * 2 + 5
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(2, channels, device=DEVICE).to(dtype)
    add = torch.randn(1 if adds == 1 else rows, channels, device=DEVICE).to(dtype) if adds else None
    given = x.float() if add is None else x.float() + add.float()[:, :, None, None]
    wanted = torch.group_norm(given, 16, weight.float(), bias.float(), 1e-5)
    wanted = F.silu(wanted) if silu else wanted
    found = group_norm(x, 16, weight, bias, 1e-5, add=add, silu=silu)
    torch.testing.assert_close(found.float(), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert found.stride() == x.stride()
    one = group_norm(x[:1], 16, weight, bias, 1e-5, add=None if add is None else add[:1], silu=silu)
    assert torch.equal(one, found[:1])  # however many rows there are


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [(3, 7, 320), (2, 5, 48), (1, 2, 2560)], ids=str)
def test_norms_and_gates_of_tokens_answer_like_torchs(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = (torch.randn(shape, device=DEVICE) * 2 + 5).to(dtype)
    weight, bias = torch.randn(2, shape[-1], device=DEVICE).to(dtype)
    wanted = F.layer_norm(x.float(), shape[-1:], weight.float(), bias.float())
    near = TOLERANCE[dtype]
    torch.testing.assert_close(layer_norm(x, weight, bias, 1e-5).float(), wanted, rtol=near, atol=near)
    one, gate = x.float().chunk(2, dim=-1)
    torch.testing.assert_close(gated(x).float(), one * F.gelu(gate), rtol=near, atol=near)
    picture = x.mT[..., None].contiguous(memory_format=torch.channels_last)
    wanted = 2 * picture.float() + bias.float()[:, None, None]
    torch.testing.assert_close(summed(picture, picture, bias).float(), wanted, rtol=near, atol=near)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (66, 4, 3, 3)], ids=str)
def test_each_pixel_becomes_four(dtype: torch.dtype, shape: tuple[int, int, int, int]) -> None:
    x = torch.randn(shape, device=DEVICE).to(dtype).contiguous(memory_format=torch.channels_last)
    found = doubled(x)
    assert torch.equal(found, x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    assert found.is_contiguous(memory_format=torch.channels_last)


#: layers by name, with the shape of their input
LAYERS: dict[str, tuple[Callable[[], nn.Linear | nn.Conv2d], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(48, 80), (4, 70, 48)),
    "of one vector": (lambda: nn.Linear(48, 80), (4, 48)),
    "convolution": (lambda: nn.Conv2d(12, 20, 3, padding=1, stride=2), (4, 12, 9, 8)),
    "of single pixels": (lambda: nn.Conv2d(12, 20, 1), (4, 12, 6, 4)),
    "that wraps around": (lambda: nn.Conv2d(12, 20, 3, padding=1, padding_mode="circular"), (4, 12, 6, 4)),
    "wide": (lambda: nn.Linear(1280, 640), (4, 300, 1280)),
    "of pictures": (lambda: nn.Conv2d(320, 320, 3, padding=1), (4, 320, 40, 24)),
}


# in matrix products, the interpreter takes bfloat16 for whole numbers
@pytest.mark.parametrize("dtype", TOLERANCE if IS_GPU else [*TOLERANCE][:2], ids=str)
@pytest.mark.parametrize("ranks", [(16, 32), (3, 40), (16, 200)], ids=str)
@pytest.mark.parametrize("name", LAYERS if IS_GPU else [*LAYERS][:5])
@torch.inference_mode()
def test_products_are_added_to_their_own_rows_only(
    name: str, ranks: Sequence[int], dtype: torch.dtype
) -> None:
    """The first row has none, the second two; the rows beside one with an overflow get none of it."""
    make, shape = LAYERS[name]
    layer = make()
    ink, gold = (
        each._replace(down=each.down.to(DEVICE, dtype), up=each.up.to(DEVICE, dtype) / rank)
        for rank, each in ((rank, product(layer, rank)) for rank in ranks)
    )
    layer.to(DEVICE, dtype)
    x = (torch.randn(shape, device=DEVICE) / 4).to(dtype)
    if isinstance(layer, nn.Conv2d):
        layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own lacks it
        x = x.contiguous(memory_format=torch.channels_last)
    given = x.clone()
    given[0] = torch.inf
    own: list[list[Scaled]] = [[], [(ink, 0.5), (gold, 2.0)], [(gold, -1.0)], [(ink, 1.0)]]
    convolution = layer if isinstance(layer, nn.Conv2d) else None
    answer: Tensor = layer(x)
    exact = layer.float()

    def check(given: Tensor, table: RowTable, own: Sequence[Sequence[Scaled]]) -> Tensor:
        wanted = answer.to(torch.float32, copy=True)
        for row, terms in enumerate(own):
            for each, scale in terms:
                whole = each._replace(down=each.down.float(), up=each.up.float())
                _terms_of([(row, whole, scale)], _Sender()).add(exact, x.float(), wanted)
        found = add_products(
            answer.clone(), given, table.places[0], table.scales[0], convolution=convolution,
            ranks=table.ranks, is_aligned=table.is_aligned,
        )  # fmt: skip
        torch.testing.assert_close(found.float(), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        return found

    device = torch.device(DEVICE)
    found = check(given, RowTable.of([Entry.of({"layer": row} if row else {}) for row in own], device), own)
    assert torch.equal(found[0], answer[0])
    check(x, RowTable.of([Entry.of({"layer": own[1]})], device), [own[1]] * len(x))
