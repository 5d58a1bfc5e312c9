"""Which images may share model calls without a bit of their rows becoming another."""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from weakref import ReferenceType, ref

import torch

from img2img_worker.engine.model_call import Part
from img2img_worker.models.families.condition import Condition
from img2img_worker.models.families.family import Family

#: cells of a latent from which on sharing calls gains less than trying it costs (see `bench/README.md`)
LARGE = 32 * 32
#: calls that each image of some has by itself before sharing is tried, which costs them a call more and wins
#: it back in 4 to 14: a worker's first few pictures do not pay for it
PATIENCE = 4
#: networks and sizes of latents of which it is remembered what was tried
REMEMBERED = 256

#: rows that a layer sees at once: which, how many of them there are, and how many are of the same image
_Shared = tuple[Hashable, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tried:
    """What came out for one network and one size of latents."""

    family: ReferenceType[Family]
    exact: set[_Shared] = field(default_factory=set)
    other: set[frozenset[_Shared]] = field(default_factory=set)
    #: how often rows that were not tried yet could have shared a call
    met: Counter[frozenset[_Shared]] = field(default_factory=Counter)


class ExactSharing:
    """Knows which rows are answered to the bit as in calls of their own image, by having tried.

    A library chooses how it adds up by shapes, threads and the processor, and not by values: rows that were
    answered both ways, and alike, tell of all that are as many. So images share what was seen to be exact on
    this very machine, and nothing else; their bits are always those that they have alone.
    """

    def __init__(self) -> None:
        self._tried: OrderedDict[Hashable, _Tried] = OrderedDict()

    def choose(self, parts: Sequence[Part]) -> Sequence[Part]:
        """Those that go into one call, the first among them: what was tried, and what is to be by now."""
        while len(parts) > 1:
            found = self._found(parts)
            if None in found and not self._is_worth_trying(parts, found):
                found = [bool(is_exact) for is_exact in found]
            if found[0] is False:
                return parts[:1]
            kept = [part for part, is_exact in zip(parts, found, strict=True) if is_exact is not False]
            if len(kept) == len(parts):
                break
            parts = kept
        return parts

    def is_to_be_tried(self, parts: Sequence[Part]) -> bool:
        """Whether it is not known yet what comes out for one of them."""
        return len(parts) > 1 and None in self._found(parts)

    def note(self, parts: Sequence[Part], exact: Sequence[bool | None]) -> None:
        """What came out for each of them; None: nothing that can be told."""
        tried = self._of(parts)
        for shared, is_exact in zip(_shared(parts), exact, strict=True):
            if is_exact:
                tried.exact.update(shared)
            elif is_exact is False:
                tried.other.add(shared)

    def _is_worth_trying(self, parts: Sequence[Part], found: Sequence[bool | None]) -> bool:
        """Whether one of those that are not known yet had calls enough by itself, in such company."""
        met = self._of(parts).met
        unknown = {shared for shared, is_exact in zip(_shared(parts), found, strict=True) if is_exact is None}
        met.update(unknown)
        return any(met[shared] > PATIENCE * len(parts) for shared in unknown)

    def _of(self, parts: Sequence[Part]) -> _Tried:
        """What came out for their network and size so far."""
        family, key = parts[0].rows.family, _network(parts)
        tried = self._tried.get(key)
        if tried is None or tried.family() is not family:
            tried = self._tried[key] = _Tried(family=ref(family))
            if len(self._tried) > REMEMBERED:
                self._tried.popitem(last=False)
        return tried

    def _found(self, parts: Sequence[Part]) -> list[bool | None]:
        height, width = parts[0].image.render.latent_size
        if height * width >= LARGE or parts[0].rows.family.is_compiled:
            return [False] * len(parts)
        tried = self._of(parts)
        return [
            False if shared in tried.other else True if shared <= tried.exact else None
            for shared in _shared(parts)
        ]


def _network(parts: Sequence[Part]) -> Hashable:
    """What computes all of them."""
    first = parts[0].rows.rows[parts[0].start].condition
    changes = first.tiling, first.merge_ratio, first.hypernetworks
    return id(parts[0].rows.family), parts[0].image.shape, torch.get_num_threads(), changes


def _shared(parts: Sequence[Part]) -> list[frozenset[_Shared]]:
    """All that the shapes of what is computed of each part depend on."""
    own = [
        Counter(group for row in part.rows.rows[part.start : part.stop] for group in _groups(row.condition))
        for part in parts
    ]
    total = sum(own, Counter[Hashable]())
    return [frozenset((group, total[group], n) for group, n in each.items()) for each in own]


def _groups(condition: Condition) -> Iterator[Hashable]:
    """Those rows of a call with which some layers see one of this condition."""
    yield "all"
    yield condition.length
    for control in condition.controls:
        yield control.network.key
        yield control.network.key, condition.length
    for prompt in condition.image_prompts:
        yield "image prompt", prompt.n_tokens
    if condition.references:
        yield "references"
        yield "references", condition.length
