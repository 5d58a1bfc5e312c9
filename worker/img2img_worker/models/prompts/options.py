"""How texts are read and encoded, beside what they say."""

from dataclasses import dataclass
from typing import Self

from img2img_shared.params import Params


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """All of a render's parameters that its texts' encoding depends on; what they mean stands in `Params`."""

    clip_skip: int = 1
    sdxl_clip_l_skip: bool = False
    emphasis: str = "Original"
    use_old_emphasis_implementation: bool = False
    comma_padding_backtrack: int = 20

    @classmethod
    def of(cls, params: Params) -> Self:
        return cls(**{name: getattr(params, name) for name in cls.__dataclass_fields__})


#: A1111's defaults
DEFAULTS = PromptOptions()
