"""What a prompt says: A1111's syntax, read without a model.

Order of reading, as in A1111 1.10: comments go; ``<lora:...>`` is taken out and ``AND`` splits into
weighted prompts (positive prompt only); each prompt becomes a schedule of texts over the steps; each text's
emphasis is read when it is encoded. Nothing malformed raises: what A1111 cannot parse is plain text. Tags
that ask for what is not known here are refused.
"""

import math
import re
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate, chain

from img2img_shared.errors import Refused
from img2img_shared.names import SAMPLERS
from img2img_shared.params import Params
from img2img_worker.models.prompts.editing import Entry, schedule

_TAG = re.compile(r"<(\w+):([^>]+)>")


@dataclass(frozen=True, kw_only=True)
class Lora:
    """``<lora:name:weight>``: a LoRA and how strongly it acts on the text encoder and on the denoiser."""

    name: str
    text_weight: float = 1.0
    unet_weight: float = 1.0
    #: how many of its ranks act; None: all
    dyn: int | None = None


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One prompt's texts over the model calls of a run; encoded together, since they share a mean."""

    entries: tuple[Entry, ...]
    #: how strongly this prompt pulls, where ``AND`` joins several
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
    #: index of each schedule's first text, the negative's last
    _starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lengths = (len(part.entries) for part in self.positive)
        object.__setattr__(self, "_starts", tuple(accumulate(lengths, initial=0)))

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text, positive schedules in order, then the negative one: what `at` points into."""
        return tuple(chain.from_iterable(part.texts for part in (*self.positive, self.negative)))

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


def conditioning(prompt: str, negative_prompt: str, params: Params) -> Conditioning:
    """What the prompts of one image ask for.

    It is edited on the clock of the job's steps, not of those that the strength leaves over, as in A1111.

    Raises:
        Refused: as `take_loras`.
    """
    total = params.steps * 2 if SAMPLERS[params.sampler_name].second_order else params.steps
    old = params.use_old_scheduling
    text, loras = take_loras(strip_comments(prompt))
    return Conditioning(
        positive=tuple(
            Schedule(entries=schedule(part, total, old=old), weight=weight) for part, weight in compose(text)
        ),
        negative=Schedule(entries=schedule(strip_comments(negative_prompt), total, old=old)),
        loras=() if params.disable_extra_networks else loras,
    )


def told(prompt: str, negative_prompt: str, params: Params) -> dict[str, object]:
    """What a picture's text tells of how its prompts were read, by A1111's names and in its order."""
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


def strip_comments(text: str) -> str:
    """The text without ``#`` to the end of the line (A1111's "Enable comments", on by default)."""
    text = re.sub(r"(^|\n)#[^\n]*(\n|$)", "\n", text)
    return re.sub(r"#[^\n]*(\n|$)", "\n", text)


def take_loras(prompt: str) -> tuple[str, tuple[Lora, ...]]:
    """The prompt without its ``<kind:...>`` tags, and the LoRAs that they name.

    ``<lora:name:0.8>``, ``<lora:name:text:unet:dyn>``, ``<lora:name:te=0.5:unet=0.8:dyn=4>``; ``lyco`` is
    the same. All of one word come before those of the other, and where one is malformed, none is in force, as
    in A1111.

    Raises:
        Refused: a tag asks for what only an extension of A1111's knows.
    """
    end = prompt.rfind(">") + 1  # nothing behind it is a tag, and to look there costs a square of its length
    tags = list(_TAG.finditer(prompt[:end]))
    for tag in tags:
        if tag[1] == "hypernet":
            raise Refused("prompt", tag[0], "<lora:name:weight>; hypernetworks are not known here")
    wanted = [tag for tag in tags if tag[1] in ("lora", "lyco")]
    words = [tag[1] for tag in wanted]
    wanted.sort(key=lambda tag: words.index(tag[1]))
    loras = [_read_lora(tag) for tag in wanted]
    text = _TAG.sub("", prompt[:end]) + prompt[end:]
    return text, tuple(lora for lora in loras if lora) if all(loras) else ()


def _read_lora(tag: re.Match[str]) -> Lora | None:
    named: dict[str, str] = {}
    positional: list[str] = []
    for argument in tag[2].split(":"):
        name, *value = argument.split("=", 2)
        if len(value) == 1:
            named[name] = value[0]
        else:
            positional.append(argument)
    if unknown := named.keys() - {"te", "unet", "dyn"}:
        raise Refused("prompt", tag[0], f"te=, unet= and dyn= in it; {min(unknown)}= is not known here")
    try:
        text_weight = float(positional[1]) if len(positional) > 1 else 1.0
        text_weight = float(named.get("te", text_weight))
        unet_weight = float(positional[2]) if len(positional) > 2 else text_weight
        unet_weight = float(named.get("unet", unet_weight))
        dyn = int(positional[3]) if len(positional) > 3 else None
        dyn = int(named["dyn"]) if "dyn" in named else dyn
        lora = Lora(name=positional[0], text_weight=text_weight, unet_weight=unet_weight, dyn=dyn)
    except (ValueError, IndexError):
        return None
    return lora if math.isfinite(text_weight) and math.isfinite(unet_weight) else None


def compose(prompt: str) -> list[tuple[str, float]]:
    """The prompts that ``AND`` joins and their weights: ``a cat :1.2 AND a dog`` is a cat 1.2, a dog 1."""
    return [_read_weight(part) for part in re.split(r"\bAND\b", prompt)]


def _read_weight(prompt: str) -> tuple[str, float]:
    text = prompt.rstrip()
    match = re.search(r":\s*([-+]?(?:\d+\.?|\d*\.\d+))$", text)
    if match is None or not math.isfinite(float(match[1])):
        return text, 1.0
    return text[: match.start()].rstrip(), float(match[1])
