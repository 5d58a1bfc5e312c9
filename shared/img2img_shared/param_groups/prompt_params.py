"""Parameters of the prompt."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from img2img_shared.errors import Refused, Summary
from img2img_shared.param_groups.group import ParamGroup

#: prompts that the word AND joins: each is a row of every model call
MOST_PROMPTS = 32


def prompts_of(text: str) -> list[str]:
    """The prompts that the word AND separates."""
    return re.split(r"\bAND\b", text)


def _bounded(prompt: str) -> str:
    n = len(prompts_of(prompt))
    if n > MOST_PROMPTS:
        reason = f"join at most {MOST_PROMPTS}, or render them as several images"
        raise Refused("prompt", Summary(f"{n} prompts joined by AND"), reason)
    return prompt


Text = Annotated[str, Field(max_length=20_000)]
Prompt = Annotated[Text, AfterValidator(_bounded)]


class PromptParams(ParamGroup):
    """What the picture shows, and how its text is read."""

    prompt: Annotated[
        Prompt, Field(description="What the picture should show.", examples=["an oil painting, (sunset:1.2)"])
    ] = ""
    negative_prompt: Annotated[
        Text, Field(description="What the picture should not show.", examples=["blurry, text"])
    ] = ""
    clip_skip: Annotated[
        int,
        Field(
            title="CLIP skip",
            ge=1,
            le=12,
            description="Layer of the text encoder to use, counted from the last: 2 is the one before it. "
            "It has no effect beyond SD 1.x, except on SDXL with `sdxl_clip_l_skip`.",
            examples=[2],
        ),
    ] = 1
    emphasis: Annotated[
        Literal["None", "Ignore", "Original", "No norm"],
        Field(
            description="What (word:1.3) does. None: it is plain text. Ignore: nothing. Original: it weights "
            "the embeddings and restores their mean. No norm: it weights them only.",
            examples=["No norm"],
        ),
    ] = "Original"
    use_old_emphasis_implementation: Annotated[
        bool,
        Field(
            title="Old emphasis",
            description="Read prompts as A1111 did before (word:1.3): only brackets change the weight, and "
            "75 tokens count.",
            examples=[True],
        ),
    ] = False
    comma_padding_backtrack: Annotated[
        int,
        Field(
            ge=0,
            le=74,
            description="When a chunk of 75 tokens is full, move the words after its last comma to the next "
            "chunk, if that comma is among this many last tokens.",
            examples=[0],
        ),
    ] = 20
    use_old_scheduling: Annotated[
        bool,
        Field(
            title="Old prompt editing",
            description="In [from:to:when], read `when` below 1 as a share of the steps, else as a step.",
            examples=[True],
        ),
    ] = False
    enable_prompt_comments: Annotated[
        bool,
        Field(
            title="Comments",
            description="Leave out what stands between a # and the end of its line.",
            examples=[False],
        ),
    ] = True
    disable_extra_networks: Annotated[
        bool,
        Field(
            description="Remove <lora:...> from the prompt without applying it.",
            examples=[True],
        ),
    ] = False
    sdxl_clip_l_skip: Annotated[
        bool,
        Field(
            title="CLIP skip for SDXL's first encoder",
            description="Apply `clip_skip` to the first text encoder of SDXL too.",
            examples=[True],
        ),
    ] = False
    sdxl_crop_top: Annotated[
        int,
        Field(
            title="SDXL crop, top",
            ge=0,
            le=8192,
            description="Tell SDXL that the picture was cropped this many pixels from the top.",
            examples=[64],
        ),
    ] = 0
    sdxl_crop_left: Annotated[
        int,
        Field(
            title="SDXL crop, left",
            ge=0,
            le=8192,
            description="Tell SDXL that the picture was cropped this many pixels from the left.",
            examples=[64],
        ),
    ] = 0
