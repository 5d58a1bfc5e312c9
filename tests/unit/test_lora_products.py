"""Products of LoRAs that rows of a call have: computed for all rows side by side, or for each by itself."""

import pytest
import torch
from torch import nn

from img2img_worker.models.adapters.low_rank import Product
from img2img_worker.models.adapters.products import _Sender, _terms_of, side_by_side

LAYERS: dict[str, tuple[nn.Linear | nn.Conv2d, tuple[int, ...]]] = {
    "linear": (nn.Linear(12, 20), (5, 7, 12)),
    "of one vector": (nn.Linear(12, 20), (5, 12)),
    "convolution": (nn.Conv2d(12, 20, 3, padding=1, stride=2), (5, 12, 9, 8)),
    "of single pixels": (nn.Conv2d(12, 20, 1), (5, 12, 6, 4)),
    "that wraps around": (nn.Conv2d(12, 20, 3, padding=1, padding_mode="circular"), (5, 12, 6, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode()
def test_products_side_by_side_add_what_each_adds_by_itself(name: str) -> None:
    """As a GPU has them: the first row has none, the second two, and the last two have the same."""
    layer, shape = LAYERS[name]
    torch.manual_seed(1)
    ink, gold = (
        Product(down=torch.randn(3, *layer.weight.shape[1:]), up=torch.randn(20, 3)) for _ in range(2)
    )
    alike = [(1, ink, 0.5), (1, gold, 2.0), (2, gold, 1.0), (3, ink, 1.0), (4, ink, -1.0)]
    x = torch.randn(shape)
    x[0] = 1e38  # overflows in products that the row has not, which is nothing to it
    answers = []
    for terms in (_terms_of(alike, 5, _Sender()), side_by_side(alike, 5, _Sender())):
        answer = layer(x.clamp(-9, 9)).contiguous()
        terms.add(layer, x, answer)
        answers.append(answer)
    assert not torch.equal(answers[0][1:], layer(x)[1:])
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-4, atol=1e-4)
