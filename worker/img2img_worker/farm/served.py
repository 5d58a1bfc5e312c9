"""What recipes know of a worker: its checkpoint, and the files beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from img2img_shared.params import Params
from img2img_worker.farm.control_cache import ControlCache
from img2img_worker.farm.unit_pictures import ControlTools
from img2img_worker.models.pinned_files import NOTHING_PINNED, PinnedFiles
from img2img_worker.models.prompts.prompt_options import PromptOptions
from img2img_worker.pictures.control.preprocessors import Annotate, no_annotator
from img2img_worker.pictures.decode import Decoder
from img2img_worker.pictures.extras_picture import RestoreFaces
from img2img_worker.pictures.upscale import RunNetwork
from img2img_worker.sampling.levels import NoiseLevels


@dataclass(frozen=True, kw_only=True)
class Served:
    """A worker's checkpoint, by the name that jobs call it, and the files beside it."""

    #: as in jobs, and so in the ledger's keys
    model: str
    #: as in a picture's infotext
    title: str
    model_hash: str | None
    #: file name and short hash of an image's VAE; None: its own
    vae: Callable[[Params, PinnedFiles], tuple[str, str] | None] = lambda *_: None
    #: reads pictures for all of the worker's threads
    decoder: Decoder
    #: and remembers what preprocessors have made of them
    control_cache: ControlCache = field(default_factory=ControlCache)
    #: tells how near pixels are, by a module's network
    annotate: Annotate = no_annotator
    #: pixels to a latent cell, each way
    vae_factor: int
    #: see `Family`
    native_side: int = 512
    side_multiple: int = 8
    #: prompt to the short hash of each LoRA that it names, as in a picture's infotext
    lora_hashes: Callable[[str, PinnedFiles], Mapping[str, str]]
    #: texts, their emphasis and LoRAs to name and short hash of each textual inversion in them, in order
    inversion_hashes: Callable[[Sequence[str], str, Sequence[str], PinnedFiles], Sequence[tuple[str, str]]]
    #: the noise levels for latents of a size
    levels: Callable[[tuple[int, int]], NoiseLevels]
    #: tokens of the contexts of texts that are encoded together
    context_length: Callable[[Sequence[str], PromptOptions], int]
    #: whether its weights are kept in 8 bits
    float8: bool = False
    #: whether it was trained to see a mask, and what that leaves
    inpaints: bool = False
    #: a picture through the network of an upscaler's name, once, in tiles as parameters say
    run_upscaler: Callable[[str, Image.Image, Params], Image.Image]
    #: a picture with its faces restored, by a restorer's name and at CodeFormer's weight
    restore_faces: RestoreFaces
    #: whether the image that is made is to end early, with what there is of it
    is_interrupted: Callable[[], bool] = lambda: False
    #: name and short hash of another checkpoint that is there; raises `Refused` where it is not
    other_title: Callable[[str], str] = str
    #: whether another checkpoint that has rendered was trained to see a mask
    other_inpaints: Callable[[str], bool] = lambda _: False
    #: which files an image's job means by names
    pinned: PinnedFiles = NOTHING_PINNED

    @property
    def own_title(self) -> str:
        """The checkpoint's title."""
        return f"{self.title} [{self.model_hash}]"

    def run_network(self, params: Params) -> RunNetwork:
        """`run_upscaler` for an image with these parameters."""
        return lambda name, image: self.run_upscaler(name, image, params)

    @property
    def control_tools(self) -> ControlTools:
        """The tools for making control pictures."""
        return ControlTools(decoder=self.decoder, cache=self.control_cache, annotate=self.annotate)
