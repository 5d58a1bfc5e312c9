"""The options of reading and encoding texts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from img2img_shared.params import Params
from img2img_worker.models.pinned_files import NOTHING_PINNED, PinnedFiles

_OF_FILES = ("bundles", "pinned")


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """All parameters of a render that affect how its texts are encoded; `Params` says what they mean."""

    clip_skip: int = 1
    sdxl_clip_l_skip: bool = False
    emphasis: str = "Original"
    use_old_emphasis_implementation: bool = False
    comma_padding_backtrack: int = 20
    #: LoRAs whose files bring textual inversions, which these texts may name
    bundles: tuple[str, ...] = ()
    #: the files that names of these LoRAs and of textual inversions stand for
    pinned: PinnedFiles = NOTHING_PINNED

    @classmethod
    def of(cls, params: Params, bundles: Iterable[str] = (), pinned: PinnedFiles = NOTHING_PINNED) -> Self:
        """The options of a render; its LoRAs `bundles` bring textual inversions."""
        own = {name: getattr(params, name) for name in cls.__dataclass_fields__ if name not in _OF_FILES}
        return cls(**own, bundles=tuple(bundles), pinned=pinned)


#: A1111's defaults
DEFAULTS = PromptOptions()
