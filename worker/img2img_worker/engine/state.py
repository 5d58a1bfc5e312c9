"""One render on its way: what its model calls need, and how far it is."""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, NamedTuple

import torch
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_shared.prompt_tags import Lora
from img2img_worker.engine.control_schedule import UnitRows, network_of
from img2img_worker.engine.course import Call, Course, LiveCourse, PlannedCourse
from img2img_worker.engine.guidance_rows import CallRows, Guidance
from img2img_worker.engine.loaded import Loaded, PictureKey
from img2img_worker.engine.render import Render
from img2img_worker.models.adapters.hypernetworks import HypernetworkSet
from img2img_worker.models.adapters.lora import LoraSet
from img2img_worker.models.control.image_prompt import ImagePromptNetwork
from img2img_worker.models.control.networks import ControlNetwork
from img2img_worker.models.families.family import Family
from img2img_worker.models.families.vaes import VaeChoice, VaeFile
from img2img_worker.models.prompts.conditioning import Conditioning, conditioning
from img2img_worker.models.prompts.text_encoder import Encoded
from img2img_worker.sampling.levels import NoiseLevels
from img2img_worker.sampling.live import LivePlan, plan_of
from img2img_worker.sampling.noise import NoiseStream, noises
from img2img_worker.sampling.plan import Plan, levels_of
from img2img_worker.sampling.refiner import takes_over

#: pixels from which on a VAE takes long for a picture
LARGE = 256 * 256

#: (model calls done, model calls in all)
OnStep = Callable[[int, int], None]


class Answer(NamedTuple):
    """Where the model's answer for a row lies: in the answers of a call [R, C, h, w], and in which row."""

    answers: Tensor
    row: int


@dataclass(eq=False, kw_only=True)
class Phase:
    """Model calls of one image that one checkpoint makes."""

    checkpoint: Loaded
    loras: LoraSet
    hypernetworks: HypernetworkSet
    #: what encodes and decodes it
    vaes: VaeChoice
    #: whether convolutions wrap around at the edges
    tiling: bool
    #: whether A1111 keeps the first network for it, and with that control and merged tokens
    keeps_hooks: bool = True
    #: embeddings of its `prompts.texts`
    texts: Sequence[Encoded] = ()
    #: its rows; None: it has no slot yet
    guidance: Guidance | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class SeenPictures:
    """What networks were shown before an image's first model call."""

    #: what its first checkpoint sees beside the latent, [c, h, w]; None: nothing
    beside: Tensor | None
    #: of each of its controls
    units: Sequence[UnitRows]


@dataclass(eq=False, kw_only=True)
class RenderState:
    """A render and the state of its sampling. `prepare_render` makes one."""

    render: Render
    on_step: OnStep | None
    course: Course
    prompts: Conditioning
    #: the one that it is in, and its refiner's, as long as that has not begun
    phases: list[Phase]
    #: of each of its controls; None: of one that has none
    networks: Sequence[ControlNetwork | ImagePromptNetwork | None]
    #: higher goes first
    priority: int
    #: what its init image's latent depends on; None: there is none
    digest: PictureKey | None
    #: that latent, where it was encoded before there was a slot
    encoded: Tensor | None = None
    #: what else its networks see; None: they have not yet
    seen: SeenPictures | None = None
    future: Future[Any] = field(default_factory=Future)
    #: those of the call under way; None: no call is left
    rows: CallRows | None = None
    #: the answers of the first of them
    answers: list[Answer] = field(default_factory=list)
    #: whether the latent of that call is made
    has_begun: bool = False
    #: its place in the tensors of its size; None: not in flight
    slot: int | None = None
    #: its final latent [C, h, w], where a VAE in half precision overflowed: it is to be decoded in full
    overflowed: Tensor | None = None
    #: float32 [n, C, h, w], as its course has it; None while it lies in a batch
    history: Tensor | None = None
    #: the device ran out of memory with nothing else in flight
    was_short: bool = False
    #: it has had its error
    failed: bool = False
    #: its picture is wanted after the next model call, as it is by then
    ends_early: bool = False

    @property
    def is_large(self) -> bool:
        """Whether a VAE takes long for its pictures: they go through in steps, while it waits for a slot."""
        height, width = self.render.latent_size
        return height * width * self.phase.checkpoint.family.vae_factor**2 >= LARGE

    @property
    def is_finished(self) -> bool:
        """Whether no model call is left, or none is wanted any more."""
        return self.course.call is None or (self.ends_early and self.course.done > 0)

    @property
    def phase(self) -> Phase:
        """The one that it is in."""
        return self.phases[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """[C, h, w] of its latent."""
        return (self.phase.checkpoint.family.latent_channels, *self.render.latent_size)

    @property
    def group(self) -> Hashable:
        """What images must have in common for their next rows to share a model call."""
        return (self.shape, None if self.rows is None else self.rows.kind(len(self.answers)))

    @property
    def n_wanted(self) -> int:
        """How many rows are next: those not answered that may share a call with the first such."""
        done = len(self.answers)
        return 0 if self.rows is None or done == len(self.rows.ends) else self.rows.ends[done] - done

    def ask(self) -> None:
        """Takes up its course's next call, where a refiner may take over: none of its rows is answered."""
        call = self.course.call
        if call is not None and len(self.phases) > 1 and self._is_refined(call):
            del self.phases[0]
            family = self.phase.checkpoint.family
            self.course.read_by(family.prediction, self._levels(family))
            call = self.course.call
        if self.phase.guidance is None:
            raise ValueError("an image without its rows")
        self.rows = None if call is None else self.phase.guidance.rows(call)
        self.answers = []

    def _is_refined(self, call: Call) -> bool:
        levels = self._levels(self.phase.checkpoint.family)
        at = call.number, call.sigma, call.timestep
        return takes_over(self.render.params, at[0], sigma=at[1], timestep=at[2], levels=levels)

    def _levels(self, family: Family) -> NoiseLevels:
        return levels_of(self.render.plan_key, family.levels(self.render.latent_size))


def prepare_render(
    render: Render,
    checkpoint: Loaded,
    refiner: Loaded | None = None,
    on_step: OnStep | None = None,
    *,
    priority: int = 0,
) -> RenderState:
    """A render as it begins.

    To be called in the thread that submits: compiling a plan, drawing noise and reading its files then
    cost the engine's thread nothing.

    Args:
        refiner: what makes its last model calls.

    Raises:
        Refused: parameters that no plan can be made of, files that are not there or do not fit, a refiner of
            another kind than the checkpoint.
    """
    family = checkpoint.family
    if render.latent is not None and len(render.latent) != family.latent_channels:
        reason = "its latents are of another kind than the first pass'; choose an upscaler of pictures"
        raise Refused("hr_checkpoint_name", render.checkpoint, reason)
    plan = plan_of(render.plan_key, family.levels(render.latent_size))
    prompts = conditioning(
        render.prompt, render.negative_prompt, render.params, earlier_calls=render.earlier_calls
    )
    own = Phase(
        checkpoint=checkpoint,
        loras=_find_loras(render, checkpoint, prompts.loras),
        hypernetworks=family.hypernetworks.find(prompts.hypernetworks, render.pinned),
        vaes=family.vaes.find(render.params, render.pinned),
        tiling=render.params.tiling,
    )
    phases = [own] if refiner is None else [own, _refiner_phase(render, family, refiner, prompts)]
    return RenderState(
        render=render,
        on_step=on_step,
        course=_course(plan, render, family),
        prompts=prompts,
        phases=phases,
        networks=[network_of(control, family, render) for control in render.controls],
        digest=_picture_key(render, phases[0].vaes.encoder),
        priority=priority,
    )


def _find_loras(render: Render, checkpoint: Loaded, own: Sequence[Lora]) -> LoraSet:
    found = checkpoint.find_loras(own, render.pinned)
    if render.read_with is None:
        return found
    reading = checkpoint.find_loras(
        conditioning(render.reading_prompt, "", render.params).loras, render.pinned
    )
    return replace(found, text=reading.text, bundles=reading.bundles)


def are_alike(one: Family, other: Family) -> bool:
    """Whether A1111 keeps the network for another checkpoint: LoRAs, hypernetworks, tiling, control stay."""
    return one is other or (one.configuration is not None and one.configuration == other.configuration)


def _refiner_phase(render: Render, family: Family, refiner: Loaded, prompts: Conditioning) -> Phase:
    """The calls that a refiner makes of a render that another checkpoint, of `family`, begins."""
    own = refiner.family
    if not isinstance(own, type(family)) or own.latent_channels != family.latent_channels:
        reason = f"it is {own.name}; choose a checkpoint of the same kind as the model, {family.name}"
        raise Refused("refiner_checkpoint", render.params.refiner_checkpoint, reason)
    if (own.inpaints or own.edits) and (own.inpaints, own.edits) != (family.inpaints, family.edits):
        reason = f"it is {own.name}, and wants to see more of the picture than the model, {family.name}"
        raise Refused("refiner_checkpoint", render.params.refiner_checkpoint, reason)
    is_alike = are_alike(own, family)
    loras = refiner.find_loras(prompts.loras if is_alike else (), render.pinned)
    hypernetworks = prompts.hypernetworks if is_alike else ()
    tiling = render.params.tiling and is_alike
    return Phase(
        checkpoint=refiner,
        loras=loras,
        hypernetworks=own.hypernetworks.find(hypernetworks, render.pinned),
        vaes=own.vaes.find(render.params, render.pinned),
        tiling=tiling,
        keeps_hooks=is_alike,
    )


def _course(plan: Plan | LivePlan, render: Render, family: Family) -> Course:
    shape = (family.latent_channels, *render.latent_size)
    params, seeds = render.params, (render.seed, render.subseed)
    if isinstance(plan, LivePlan):
        return LiveCourse(plan, family.prediction, NoiseStream(params, *seeds, shape))
    drawn = torch.empty(plan.n_noises, *shape)
    for place, noise in zip(drawn, noises(plan, params, *seeds, shape), strict=True):
        place.copy_(noise)
    return PlannedCourse(plan, family.prediction, drawn)


def _picture_key(render: Render, vae: VaeFile | None) -> PictureKey | None:
    pixels = render.pixels
    if pixels is None:
        return None
    digest = blake2b(pixels.tobytes(), digest_size=16, salt=str(pixels.shape).encode()[:16]).digest()
    return PictureKey(digest, render.params.tiling, vae)
