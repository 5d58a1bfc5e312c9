"""The parts of a checkpoint, before they become networks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from img2img_worker.models.checkpoints.mapped import MappedFiles
from img2img_worker.models.prompts.tokenizer import ClipTokenizer

#: the classes of denoisers, in their configurations: of SD 1, 2 and XL, of SD 3, of Flux
UNET2D, SD3, FLUX = "UNet2DConditionModel", "SD3Transformer2DModel", "FluxTransformer2DModel"


@dataclass(frozen=True, kw_only=True)
class Component:
    """One network of a checkpoint, in diffusers' and transformers' terms."""

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    def copied(self, files: MappedFiles) -> "Component":
        """A copy whose weights are in memory of their own."""
        return replace(self, weights={name: weight.clone() for name, weight in files.used(self.weights)})


@dataclass(frozen=True, kw_only=True)
class CheckpointParts:
    """A whole checkpoint, whichever layout it was read from."""

    #: where it was read from, for messages
    source: str
    #: the configuration file beside it (``NAME.yaml``); None: there is none
    config_file: str | None = None
    #: a UNet, or a transformer
    denoiser: Component
    vae: Component
    #: CLIP's: one, or two in SDXL and SD 3
    text_encoders: tuple[Component, ...]
    #: one for each text encoder
    tokenizers: tuple[ClipTokenizer, ...]
    #: Flux has one, SD 3 may have one
    t5: Component | None = None
    #: transformers' T5Tokenizer
    t5_tokenizer: Any = None
    #: keys of diffusers' ``scheduler_config.json``
    scheduler: Mapping[str, Any]
    #: the files that its weights are mapped from
    files: MappedFiles = field(default_factory=MappedFiles)

    @property
    def components(self) -> tuple[Component, ...]:
        """All its networks."""
        t5 = () if self.t5 is None else (self.t5,)
        return (self.denoiser, self.vae, *self.text_encoders, *t5)

    def copied(self) -> "CheckpointParts":
        """A copy whose weights are in memory of their own, and not mapped from files."""
        return replace(
            self,
            denoiser=self.denoiser.copied(self.files),
            vae=self.vae.copied(self.files),
            text_encoders=tuple(each.copied(self.files) for each in self.text_encoders),
            t5=None if self.t5 is None else self.t5.copied(self.files),
            files=MappedFiles(),
        )
