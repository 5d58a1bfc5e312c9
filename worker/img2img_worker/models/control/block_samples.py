"""The residuals that control networks add after the blocks of a transformer."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from img2img_worker.models.control.flow_networks import FlowControlNet
from img2img_worker.models.control.rows import ControlRows


def block_samples(
    controls: Sequence[ControlRows],
    x: Tensor,
    t: Tensor,
    conditions: Mapping[str, Tensor],
    n_blocks: Sequence[int],
) -> list[list[Tensor] | None]:
    """For each kind of block, what is added after each block: [R, tokens, d], 0 for rows without control.

    Blocks to which the same is added share one tensor. None: nothing is added to this kind.

    Args:
        x, t, conditions: the transformer's inputs, for all rows of the call.
        n_blocks: number of blocks of each kind.
    """
    names = ("pooled", "guidance")
    own = {name: conditions[name] for name in names if name in conditions}
    found = [each.residuals(x, t, own) for each in controls]
    return [_of_kind(kind, n, controls, found, len(x)) for kind, n in enumerate(n_blocks)]


def _of_kind(
    kind: int, n_blocks: int, controls: Sequence[ControlRows], found: Sequence[Sequence[Tensor]], n_rows: int
) -> list[Tensor] | None:
    sums: dict[tuple[int | None, ...], Tensor] = {}
    samples = []
    for block in range(n_blocks):
        sources = tuple(_network(each).behind(kind, block, n_blocks) for each in controls)
        if all(source is None for source in sources):
            return None  # and so for every block: a network has residuals for a kind of block, or none
        if sources not in sums:
            sums[sources] = _sum(sources, controls, found, n_rows)
        samples.append(sums[sources])
    return samples


def _sum(
    sources: Sequence[int | None],
    controls: Sequence[ControlRows],
    found: Sequence[Sequence[Tensor]],
    n_rows: int,
) -> Tensor:
    total: Tensor | None = None
    for source, each, residuals in zip(sources, controls, found, strict=True):
        if source is None:
            continue
        tokens = residuals[source].flatten(2).transpose(1, 2)
        if total is None:
            total = tokens.new_zeros(n_rows, *tokens.shape[1:])
        total.index_add_(0, each.rows, tokens)
    if total is None:
        raise ValueError("a sum of nothing")
    return total


def _network(rows: ControlRows) -> FlowControlNet:
    if not isinstance(rows.network, FlowControlNet):
        raise TypeError(f"{rows.network.key} is for no transformer")
    return rows.network
