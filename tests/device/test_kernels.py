"""Kernels of ours answer as torch's own layers do: on a GPU, and where Triton interprets them, on a CPU."""

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F

knobs = pytest.importorskip("triton").knobs
from img2img_worker.models.families.triton_kernels import gated, group_norm, layer_norm, summed  # noqa: E402

IS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if IS_GPU else "cpu"

pytestmark = pytest.mark.skipif(
    not (IS_GPU or knobs.runtime.interpret), reason="no GPU, and nobody interprets"
)

#: of pictures [R, C, H, W]: channels that are no power of two, a single pixel, and more parts than are added
#: up at a time
SHAPES = [(2, 48, 5, 3), (2, 32, 1, 1), (1, 16, 33, 34)]
#: that take an interpreter minutes
LARGE = [(2, 320, 9, 7), (3, 960, 4, 4), (1, 128, 96, 100), (1, 32, 2048, 2056)]
#: what is near enough
LOW = {torch.float32: 2e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Random numbers that are the same each time, and convolutions in float32 as they are named."""
    torch.manual_seed(1)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("shape", SHAPES + LARGE if IS_GPU else SHAPES, ids=str)
@pytest.mark.parametrize(("silu", "adds"), [(False, 0), (True, 1), (True, 2)])
def test_a_group_norm_is_torchs(
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
    torch.testing.assert_close(found.float(), wanted, rtol=LOW[dtype], atol=LOW[dtype])
    assert found.stride() == x.stride()
    one = group_norm(x[:1], 16, weight, bias, 1e-5, add=None if add is None else add[:1], silu=silu)
    assert torch.equal(one, found[:1])  # however many rows there are


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("shape", [(3, 7, 320), (2, 5, 48), (1, 2, 2560)], ids=str)
def test_norms_and_gates_of_tokens_are_torchs(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = (torch.randn(shape, device=DEVICE) * 2 + 5).to(dtype)
    weight, bias = torch.randn(2, shape[-1], device=DEVICE).to(dtype)
    wanted = F.layer_norm(x.float(), shape[-1:], weight.float(), bias.float())
    near = LOW[dtype]
    torch.testing.assert_close(layer_norm(x, weight, bias, 1e-5).float(), wanted, rtol=near, atol=near)
    one, gate = x.float().chunk(2, dim=-1)
    torch.testing.assert_close(gated(x).float(), one * F.gelu(gate), rtol=near, atol=near)
    picture = x.mT[..., None].contiguous(memory_format=torch.channels_last)
    wanted = 2 * picture.float() + bias.float()[:, None, None]
    torch.testing.assert_close(summed(picture, picture, bias).float(), wanted, rtol=near, atol=near)
