"""Hooks into a UNet's layers that keep features of reference pictures, and mix them into the rows' own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from img2img_worker.models.control.references import ReferenceRows, RowReference
from img2img_worker.models.transfer import to_device

#: least variance, so that a flat channel is not divided by 0
_EPSILON = 1e-6
#: for a published UNet with 12 input and 12 output blocks (SD 1 and 2), or 9 and 9 (XL): the numbers of the
#: input and of the output blocks after which AdaIN acts
_ADAIN_BLOCKS = {12: ((4, 5, 7, 8, 10, 11), range(8)), 9: ((4, 5, 7, 8), range(6))}

#: from a layer's input or output [r, ...], and what it has kept of several pictures, to its new output
_Mix = Callable[[Tensor, Sequence[Any]], Tensor]


class ReferenceLayers:
    """Hooks into the layers that references act on: self-attention and, for AdaIN, the ends of blocks.

    Args:
        unet: diffusers' UNet2DConditionModel.
    """

    def __init__(self, unet: Any) -> None:
        blocks = (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
        found = [module for block in blocks for module in block.modules() if _is_transformer(module)]
        # the deepest, which are the widest, come first; among equals the order of the data flow stays
        found.sort(key=lambda module: -module.norm1.normalized_shape[0])
        self._attentions = [(module.attn1, i / len(found)) for i, module in enumerate(found)]
        self._outputs = _outputs(unet)

    @property
    def can_match(self) -> bool:
        """Whether AdaIN works; the extension defines it for the UNets of SD 1, 2 and XL only."""
        return bool(self._outputs)

    @contextmanager
    def referring(
        self, references: Sequence[ReferenceRows], n_rows: int, show: Callable[[ReferenceRows], object]
    ) -> Iterator[None]:
        """In this context the UNet's rows refer to these pictures; on entry, the UNet runs on the pictures.

        Args:
            n_rows: of the call.
            show: runs the UNet on the pictures of the rows that have one.
        """
        if not references:
            yield
            return
        with ExitStack() as hooks:
            kept = [_Kept(depth, "attends") for _, depth in self._attentions]
            for (attention, _), own in zip(self._attentions, kept, strict=True):
                hooks.enter_context(_replace_forward(attention, partial(_attend, attention.forward, own)))
            for output, depth in self._outputs:
                kept.append(_Kept(depth, "matches"))
                handle = output.register_forward_hook(partial(_match_statistics, kept[-1]))
                hooks.callback(handle.remove)
            for each in references:
                for own in kept:
                    own.begin(each)
                show(each)
            for own in kept:
                own.end(n_rows)
            yield


class _Kept:
    """What one layer has kept of pictures, for rows that have not used it yet.

    Args:
        depth: of the layer; references of a larger `RowReference.weight` act on it.
        how: the field of `RowReference` that says if it acts on layers of this kind: "attends" or "matches".
    """

    def __init__(self, depth: float, how: str) -> None:
        self._depth, self._how = depth, how
        #: what was kept in each pass so far
        self._seen: list[Any] = []
        self._passes: list[ReferenceRows] = []
        #: for each row of the call, the passes whose features it has not used yet
        self._pending: dict[int, list[int]] = {}
        self._now: ReferenceRows | None = None
        self._n_rows = 0

    def begin(self, references: ReferenceRows) -> None:
        """The UNet is about to run on these pictures."""
        self._now = references
        self._passes.append(references)
        self._seen.append(None)

    def end(self, n_rows: int) -> None:
        """The UNet is about to run on the call's own rows."""
        self._now, self._n_rows = None, n_rows

    def keep(self, make: Callable[[], Any]) -> None:
        """Keep what `make` gives, if rows refer to the pictures that the UNet runs on now."""
        if self._now is None:
            return
        number = len(self._passes) - 1
        for place, member in zip(self._now.places, self._now.members, strict=True):
            if getattr(member, self._how) and member.weight > self._depth:
                self._pending.setdefault(place, []).append(number)
                if self._seen[number] is None:
                    self._seen[number] = make()

    def with_references(self, x: Tensor, plain: Tensor, mix: _Mix) -> Tensor:
        """The layer's output for `x`, with what was kept mixed into the rows that refer to pictures.

        Of a row's several pictures, a later one is itself run with the earlier ones mixed in, at layers of a
        kind on which the later one does not act.

        Args:
            plain: the layer's output without references.
        """
        for numbers, places in self._groups().items():
            plain = self._mix_rows(x, plain, mix, numbers, places)
            for place in places:
                del self._pending[place]
        return plain

    def _groups(self) -> dict[tuple[int, ...], list[int]]:
        """The rows that now use what was kept for them, grouped by the passes in which it was kept."""
        groups: dict[tuple[int, ...], list[int]] = {}
        if self._now is None:
            places: Sequence[int] = range(self._n_rows)
        else:
            members = zip(self._now.places, self._now.members, strict=True)
            places = [place for place, member in members if not getattr(member, self._how)]
        for place in places:
            if place in self._pending:
                groups.setdefault(tuple(self._pending[place]), []).append(place)
        return groups

    def _mix_rows(
        self, x: Tensor, plain: Tensor, mix: _Mix, numbers: tuple[int, ...], places: Sequence[int]
    ) -> Tensor:
        is_whole = self._passes[0].is_whole
        at = places if self._now is None else [self._now.position(place) for place in places]
        rows = to_device(torch.tensor(at), x.device)
        own = x if is_whole else x.index_select(0, rows)
        kept = [self._of_rows(number, places) for number in numbers]
        found = mix(own, kept)
        if is_whole:
            found = found.index_select(0, rows)
        shares = [self._fidelity(place, numbers) for place in places]
        if any(shares):
            share = to_device(torch.tensor(shares, dtype=found.dtype), found.device)
            share = share.view(-1, *[1] * (found.ndim - 1))
            found = share * plain.index_select(0, rows) + (1 - share) * found
        return plain.index_copy(0, rows, found)

    def _of_rows(self, number: int, places: Sequence[int]) -> Any:
        """What was kept in a pass for these rows; for all rows of the call, if passes are whole."""
        seen, which = self._seen[number], self._passes[number]
        if which.is_whole:
            return seen
        index = to_device(torch.tensor([which.position(place) for place in places]), which.rows.device)
        if isinstance(seen, Tensor):
            return seen.index_select(0, index)
        return tuple(each.index_select(0, index) for each in seen)

    def _fidelity(self, place: int, numbers: tuple[int, ...]) -> float:
        own = [self._member(number, place).fidelity for number in numbers]
        return sum(own) / len(own)

    def _member(self, number: int, place: int) -> RowReference:
        which = self._passes[number]
        return which.members[which.places.index(place)]


def _attend(forward: Callable[..., Tensor], kept: _Kept, x: Tensor, *given: Any, **more: Any) -> Tensor:
    """Self-attention, in which rows attend to the tokens of their references, too."""
    plain = forward(x, *given, **more)

    def attend_to_all(own: Tensor, pictures: Sequence[Tensor]) -> Tensor:
        return forward(own, encoder_hidden_states=torch.cat([own, *pictures], dim=1))

    answer = kept.with_references(x, plain, attend_to_all)
    kept.keep(lambda: x)
    return answer


def _match_statistics(kept: _Kept, _module: nn.Module, _given: Any, output: Any) -> Any:
    """A block's output [r, c, h, w], where rows with references get their mean and variance (AdaIN)."""
    x = output[0] if isinstance(output, tuple) else output
    answer = kept.with_references(x, x, _take_statistics)
    kept.keep(lambda: torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0))
    return (answer, *output[1:]) if isinstance(output, tuple) else answer


def _take_statistics(x: Tensor, pictures: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
    variances, means = zip(*pictures, strict=True)
    wanted = sum(variances) / len(variances), sum(means) / len(means)
    deviation, wanted_deviation = (each.clamp(min=_EPSILON).sqrt() for each in (variance, wanted[0]))
    answer: Tensor = (x - mean) / deviation * wanted_deviation + wanted[1]
    return answer.to(x.dtype)


@contextmanager
def _replace_forward(module: Any, forward: Callable[..., Tensor]) -> Iterator[None]:
    own = module.forward
    module.forward = forward
    try:
        yield
    finally:
        module.forward = own


def _is_transformer(module: nn.Module) -> bool:
    return hasattr(module, "attn1") and hasattr(module, "norm1")


def _outputs(unet: Any) -> list[tuple[nn.Module, float]]:
    """The last module of each block that AdaIN acts on, with its depth; empty: it is no published UNet."""
    down = [unet.conv_in]
    for block in unet.down_blocks:
        down += _ends(block)
        down += [sampler.conv for sampler in block.downsamplers or ()]
    up: list[nn.Module] = []
    for block in unet.up_blocks:
        own = _ends(block)
        up += [*own[:-1], block.upsamplers[0].conv] if block.upsamplers else own
    if len(down) not in _ADAIN_BLOCKS or len(up) != len(down):
        return []
    of_down, of_up = _ADAIN_BLOCKS[len(down)]
    found = [(unet.mid_block, 0.0)]
    found += [(down[place], 2 * (1 - i / len(of_down))) for i, place in enumerate(of_down)]
    return found + [(up[place], 2 * i / len(of_up)) for i, place in enumerate(of_up)]


def _ends(block: Any) -> list[nn.Module]:
    """The last module of each layer of a block: its transformer, or else its residual block."""
    return list(getattr(block, "attentions", None) or block.resnets)
