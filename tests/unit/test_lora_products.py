"""Products of LoRAs that rows of a call have: what each row gets, and the table in which a GPU finds them."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from img2img_worker.models.adapters.low_rank import Product
from img2img_worker.models.adapters.products import _Sender, _terms_of
from img2img_worker.models.adapters.row_table import MOST, Entry, RowTable, Scaled

LAYERS: dict[str, tuple[nn.Linear | nn.Conv2d, tuple[int, ...]]] = {
    "linear": (nn.Linear(12, 20), (5, 7, 12)),
    "of one vector": (nn.Linear(12, 20), (5, 12)),
    "convolution": (nn.Conv2d(12, 20, 3, padding=1, stride=2), (5, 12, 9, 8)),
    "of single pixels": (nn.Conv2d(12, 20, 1), (5, 12, 6, 4)),
    "that wraps around": (nn.Conv2d(12, 20, 3, padding=1, padding_mode="circular"), (5, 12, 6, 4)),
}


def product(layer: nn.Module, rank: int) -> Product:
    assert isinstance(layer.weight, Tensor)
    outer, *inner = layer.weight.shape
    return Product(down=torch.randn(rank, *inner), up=torch.randn(outer, rank))


def added(layer: nn.Linear | nn.Conv2d, product: Product, x: Tensor) -> Tensor:
    """What a product adds to the layer's answer to x."""
    weight = (product.up @ product.down.flatten(1)).view(layer.weight.shape)
    answer: Tensor = functional_call(layer, {"weight": weight, "bias": torch.zeros(len(weight))}, x)
    return answer


@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode()
def test_each_row_gets_its_own_products(name: str) -> None:
    """The first row has none, the second two, and the last two have the same."""
    layer, shape = LAYERS[name]
    torch.manual_seed(1)
    ink, gold = product(layer, 3), product(layer, 3)
    alike = [(1, ink, 0.5), (1, gold, 2.0), (2, gold, 1.0), (3, ink, 1.0), (4, ink, -1.0)]
    x = torch.randn(shape)
    answer = layer(x).contiguous()
    wanted = answer.clone()
    _terms_of(alike, _Sender()).add(layer, x, answer)
    for row, each, scale in alike:
        wanted[row] += scale * added(layer, each, x[row : row + 1])[0]
    assert not torch.equal(wanted[1:], layer(x)[1:])
    torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-4)


def read(table: RowTable, row: int, layer: str) -> list[tuple[Tensor, Tensor, float]]:
    """What a kernel finds there."""
    at = {matrix.data_ptr(): matrix for entry in table.entries for matrix in entry.matrices}
    number = table.layers.index(layer)
    found = []
    for (down, up, rank), scale in zip(
        table.places[number, row].tolist(), table.scales[number, row].tolist(), strict=True
    ):
        if rank:
            assert at[down].is_contiguous()
            assert at[up].is_contiguous()
            assert len(at[down]) == rank == at[up].shape[1]
            found.append((at[down], at[up], scale))
    return found


def test_a_table_has_each_rows_products() -> None:
    layer = nn.Linear(12, 20)
    ink, gold, cut = product(layer, 16), product(layer, 32), product(layer, 64)
    cut = Product(down=cut.down[:16], up=cut.up[:, :16])  # not contiguous, as ``dyn`` leaves it
    none: Mapping[str, Sequence[Scaled]] = {}
    both = {"to_q": [(ink, 0.5), (gold, -2.0)], "to_k": [(gold, 1.0)]}
    one = {"conv_in": [(cut, 3.0)], "to_q": [(ink, 1.0)]}
    table = RowTable.of([Entry.of(own) for own in (none, both, one, both)], torch.device("cpu"))
    assert table.layers == ("conv_in", "to_k", "to_q")
    assert table.places.shape == (3, 4, 2, 3)
    for row, own in enumerate([none, both, one, both]):
        for name in table.layers:
            wanted = own.get(name, ())
            for (down, up, scale), (each, wanted_scale) in zip(read(table, row, name), wanted, strict=True):
                assert torch.equal(down, each.down)
                assert torch.equal(up, each.up)
                assert scale == wanted_scale
    assert table.ranks == 32
    assert table.is_aligned


@pytest.mark.parametrize(("ranks", "at_once"), [((4,), 16), ((16, 40), 64), ((16, 300), MOST)])
def test_ranks_of_any_number_are_computed_some_at_a_time(ranks: tuple[int, ...], at_once: int) -> None:
    layer = nn.Linear(12, 20)
    entries = [Entry.of({"to_q": [(product(layer, rank), 1.0)]}) for rank in ranks]
    table = RowTable.of(entries, torch.device("cpu"))
    assert table.ranks == at_once
    assert not table.is_aligned


def test_tables_of_other_rows_of_the_same_layers_are_of_one_kind() -> None:
    """So that a recorded call can be given either."""
    layer, device = nn.Linear(12, 20), torch.device("cpu")
    ink, gold, wide = (Entry.of({"to_q": [(product(layer, rank), 1.0)]}) for rank in (16, 16, 48))
    none = Entry.of({})
    kinds = [RowTable.of(each, device).kind for each in ([ink, none], [none, gold], [wide, ink])]
    assert kinds[0] == kinds[1] != kinds[2]
