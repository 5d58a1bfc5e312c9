"""How texts are read and encoded, beside what they say."""

from collections.abc import Iterable
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
    #: LoRAs whose files bring textual inversions, which these texts may name
    bundles: tuple[str, ...] = ()

    @classmethod
    def of(cls, params: Params, bundles: Iterable[str] = ()) -> Self:
        own = {name: getattr(params, name) for name in cls.__dataclass_fields__ if name != "bundles"}
        return cls(**own, bundles=tuple(bundles))


#: A1111's defaults
DEFAULTS = PromptOptions()
