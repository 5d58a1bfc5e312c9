"""Comments in prompts, and tags for LoRAs and hypernetworks, in A1111's syntax."""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from img2img_shared.errors import Refused

_TAG = re.compile(r"<(\w+):([^>]+)>")
#: words that mean a LoRA
_KINDS = ("lora", "lyco")
_HYPERNETWORK = "hypernet"
_FORM = "write <{}:name:weight>, with a number such as 0.8 as weight"


@dataclass(frozen=True, kw_only=True)
class Lora:
    """``<lora:name:weight>``: a LoRA and how strongly it acts on the text encoder and on the denoiser."""

    name: str
    text_weight: float = 1.0
    unet_weight: float = 1.0
    #: how many of its ranks act; None: all
    dyn: int | None = None


@dataclass(frozen=True, kw_only=True)
class Hypernetwork:
    """``<hypernet:name:weight>``: a hypernetwork and how strongly it acts."""

    name: str
    weight: float = 1.0


class ExtraNetworks(NamedTuple):
    """A prompt without its tags, and the networks that they name."""

    text: str
    loras: tuple[Lora, ...] = ()
    hypernetworks: tuple[Hypernetwork, ...] = ()


def strip_comments(text: str, *, enabled: bool = True) -> str:
    """The text without ``#`` to the end of the line.

    Args:
        enabled: `enable_prompt_comments`; without it, # is an ordinary character.
    """
    if not enabled:
        return text
    text = re.sub(r"(^|\n)#[^\n]*(\n|$)", "\n", text)
    return re.sub(r"#[^\n]*(\n|$)", "\n", text)


def take_extra_networks(prompt: str) -> ExtraNetworks:
    """The prompt without its ``<kind:...>`` tags, and the LoRAs and hypernetworks that they name.

    ``<lora:name:0.8>``, ``<lora:name:text:unet:dyn>``, ``<lora:name:te=0.5:unet=0.8:dyn=4>``; ``lyco`` is
    the same. All tags of one word come before those of the other, as in A1111. ``<hypernet:name:0.8>``.

    Raises:
        Refused: a tag is malformed (where A1111 puts all of them out of force), or asks for what only an
            extension of A1111's knows.
    """
    tags, rest = _tags(prompt)
    wanted = [tag for tag in tags if tag[1] in _KINDS]
    words = [tag[1] for tag in wanted]
    wanted.sort(key=lambda tag: words.index(tag[1]))
    text = _TAG.sub("", prompt[: len(prompt) - len(rest)]) + rest
    return ExtraNetworks(
        text,
        tuple(_read_lora(tag) for tag in wanted),
        tuple(_read_hypernetwork(tag) for tag in tags if tag[1] == _HYPERNETWORK),
    )


def unknown_tags(prompt: str) -> list[str]:
    """Tags of other kinds, which are removed from a prompt and have no other effect, as in A1111.

    >>> unknown_tags("a <lore:x:1> cat <lora:y:1>")
    ['<lore:x:1>']
    """
    return [tag[0] for tag in _tags(prompt)[0] if tag[1] not in (*_KINDS, _HYPERNETWORK)]


def check_tags(*, comments: bool = True, **prompts: str) -> None:
    """Check that prompts have no malformed tags, nor any of other kinds, which would be removed silently.

    Args:
        comments: `enable_prompt_comments`.
        prompts: by their fields.

    Raises:
        Refused: there is one; names the first one's field.
    """
    for field, prompt in prompts.items():
        text = strip_comments(prompt, enabled=comments)
        for tag in unknown_tags(text):
            raise Refused(field, tag, "write <lora:name:weight> or <hypernet:name:weight>, in lower case")
        try:
            take_extra_networks(text)
        except Refused as error:
            raise Refused(field, error.value, error.reason) from None


def _tags(prompt: str) -> tuple[list[re.Match[str]], str]:
    """A prompt's tags, and the text after the last one."""
    end = prompt.rfind(">") + 1  # nothing behind it is a tag, and to look there costs a square of its length
    return list(_TAG.finditer(prompt[:end])), prompt[end:]


def _read_lora(tag: re.Match[str]) -> Lora:
    named: dict[str, str] = {}
    positional: list[str] = []
    for argument in tag[2].split(":"):
        name, *value = argument.split("=", 2)
        if len(value) == 1:
            named[name] = value[0]
        else:
            positional.append(argument)
    if unknown := named.keys() - {"te", "unet", "dyn"}:
        raise Refused("prompt", tag[0], f"{min(unknown)}= is unknown; use te=, unet= and dyn=")
    try:
        text_weight = float(positional[1]) if len(positional) > 1 else 1.0
        text_weight = float(named.get("te", text_weight))
        unet_weight = float(positional[2]) if len(positional) > 2 else text_weight
        unet_weight = float(named.get("unet", unet_weight))
        dyn = int(positional[3]) if len(positional) > 3 else None
        dyn = int(named["dyn"]) if "dyn" in named else dyn
        lora = Lora(name=positional[0], text_weight=text_weight, unet_weight=unet_weight, dyn=dyn)
    except (ValueError, IndexError):
        raise Refused("prompt", tag[0], _FORM.format("lora")) from None
    if not (math.isfinite(text_weight) and math.isfinite(unet_weight)):
        raise Refused("prompt", tag[0], _FORM.format("lora"))
    return lora


def _read_hypernetwork(tag: re.Match[str]) -> Hypernetwork:
    name, *rest = tag[2].split(":")
    try:
        weight = float(rest[0]) if rest else 1.0
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise Refused("prompt", tag[0], _FORM.format(_HYPERNETWORK))
    return Hypernetwork(name=name, weight=weight)
