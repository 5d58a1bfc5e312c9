"""Reads A1111's prompt syntax, without a model.

The order is that of A1111 1.10: comments are removed; ``<lora:...>`` is taken out and ``AND`` splits into
weighted prompts (positive prompt only); each prompt becomes a schedule of texts over the steps; each text's
emphasis is read when it is encoded. Malformed syntax raises nothing: what A1111 cannot parse is plain text.
Tags with unknown options are refused.
"""

import math
import re
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, chain

from img2img_shared.param_groups.prompt_params import prompts_of
from img2img_shared.params import Params
from img2img_shared.prompt_tags import Hypernetwork, Lora, strip_comments, take_extra_networks
from img2img_shared.samplers import SAMPLERS
from img2img_worker.models.prompts.editing import Entry, schedule


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One prompt's texts over the model calls of a run; encoded together, as emphasis restores their mean."""

    entries: tuple[Entry, ...]
    #: of this prompt among those that ``AND`` joins
    weight: float = 1.0

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(text for _, text in self.entries)

    def at(self, call: int) -> int:
        """Index of the entry in force at a model call, from 0; past the last (as in A1111) the first."""
        index = bisect_left(self.entries, call, key=lambda entry: entry[0])
        return index if index < len(self.entries) else 0


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """All that one image's prompts ask for: texts to encode, and which of them act at each model call.

    The guided answer is ``uncond + Σ weight_k · cfg_scale · (cond_k - uncond)``.
    """

    positive: tuple[Schedule, ...]
    negative: Schedule
    loras: tuple[Lora, ...] = ()
    hypernetworks: tuple[Hypernetwork, ...] = ()
    #: index of each schedule's first text, the negative's last
    _starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lengths = (len(part.entries) for part in self.positive)
        object.__setattr__(self, "_starts", tuple(accumulate(lengths, initial=0)))

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text, positive schedules in order, then the negative one: what `at` points into."""
        return tuple(chain.from_iterable(part.texts for part in (*self.positive, self.negative)))

    @property
    def is_constant(self) -> bool:
        """Whether the same texts act at every model call."""
        return all(len(part.entries) == 1 for part in (*self.positive, self.negative))

    def at(self, call: int) -> tuple[tuple[tuple[int, float], ...], int]:
        """((index into `texts`, weight) of each positive row, index of the negative row) at a model call.

        `call` counts the image's model calls from 0, whatever its strength: Heun makes two a step. The number
        of positive rows is the same at every call.
        """
        *starts, negative = self._starts
        rows = tuple(
            (start + part.at(call), part.weight) for start, part in zip(starts, self.positive, strict=True)
        )
        return rows, negative + self.negative.at(call)


def conditioning(
    prompt: str, negative_prompt: str, params: Params, *, earlier_calls: int = 0
) -> Conditioning:
    """The conditioning that an image's prompts ask for.

    As in A1111, edits count the job's steps, not those that are left after the denoising strength.

    Args:
        earlier_calls: model calls of a pass before this one, from which the count of steps goes on; with
            `use_old_scheduling` it starts again, over as many steps as that pass had calls.

    Raises:
        Refused: as `take_extra_networks`.
    """
    steps = max(params.steps, 1)  # a render that only decodes has 0
    total = steps * 2 if SAMPLERS[params.sampler_name].second_order else steps
    if params.use_old_scheduling:
        edited = partial(schedule, steps=earlier_calls or total, old=True)
    else:
        edited = partial(schedule, steps=total, earlier=earlier_calls)
    uncommented = partial(strip_comments, enabled=params.enable_prompt_comments)
    text, loras, hypernetworks = take_extra_networks(uncommented(prompt))
    if params.disable_extra_networks:
        loras, hypernetworks = (), ()
    return Conditioning(
        positive=tuple(Schedule(entries=edited(part), weight=weight) for part, weight in compose(text)),
        negative=Schedule(entries=edited(uncommented(negative_prompt))),
        loras=loras,
        hypernetworks=hypernetworks,
    )


def infotext_pairs(prompt: str, negative_prompt: str, params: Params) -> dict[str, object]:
    """The infotext's entries about how the prompts were read, by A1111's names and in its order."""
    pairs: dict[str, object] = {}
    texts = conditioning(prompt, negative_prompt, params).texts
    if params.use_old_scheduling:
        new = params.model_copy(update={"use_old_scheduling": False})
        if texts != conditioning(prompt, negative_prompt, new).texts:
            pairs["Old prompt editing timelines"] = True
    weighed = any(bracket in text for text in texts for bracket in "([")
    if weighed and params.emphasis != "Original" and not params.use_old_emphasis_implementation:
        pairs["Emphasis"] = params.emphasis
    return pairs


def compose(prompt: str) -> list[tuple[str, float]]:
    """The prompts that ``AND`` joins and their weights: ``a cat :1.2 AND a dog`` is a cat 1.2, a dog 1."""
    return [_read_weight(part) for part in prompts_of(prompt)]


def _read_weight(prompt: str) -> tuple[str, float]:
    text = prompt.rstrip()
    match = re.search(r":\s*([-+]?(?:\d+\.?|\d*\.\d+))$", text)
    if match is None or not math.isfinite(float(match[1])):
        return text, 1.0
    return text[: match.start()].rstrip(), float(match[1])
