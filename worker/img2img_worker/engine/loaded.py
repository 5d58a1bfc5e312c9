"""A checkpoint as the engine runs it, with what it remembers of its pictures and prompts."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from torch import Tensor

from img2img_shared.prompt_tags import Lora
from img2img_worker.engine.encoded_texts import EncodedTexts
from img2img_worker.engine.preview import Colours
from img2img_worker.models.adapters.lora import LoraSet
from img2img_worker.models.families.family import Family
from img2img_worker.models.families.vaes import VaeFile
from img2img_worker.models.pinned_files import PinnedFiles


class PictureKey(NamedTuple):
    """What an init image's latent depends on."""

    pixels: bytes
    tiling: bool
    vae: VaeFile | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """One checkpoint on the device."""

    family: Family
    texts: EncodedTexts
    colours: Colours
    #: whether LoRAs are added to the weights only: to the byte the same in any company, and a graph's own
    merges_loras: bool
    #: of pictures that it has encoded
    latents: OrderedDict[PictureKey, Tensor] = field(default_factory=OrderedDict)

    @classmethod
    def of(cls, family: Family, *, deterministic: bool) -> Self:
        """A checkpoint of which nothing is remembered yet."""
        return cls(
            family=family,
            texts=EncodedTexts(family),
            colours=Colours(family),
            merges_loras=deterministic or family.is_compiled,
        )

    def find_loras(self, loras: Sequence[Lora], pinned: PinnedFiles) -> LoraSet:
        """As `Loras.find`."""
        return self.family.loras.find(loras, by_row=not self.merges_loras, pinned=pinned)
