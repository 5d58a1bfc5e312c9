"""One render on its way: what its model calls need, and how far it is."""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import torch
from torch import Tensor

from img2img_worker.engine.course import Course, LiveCourse, PlannedCourse
from img2img_worker.engine.guidance import CallRows, Guidance
from img2img_worker.engine.render import Render
from img2img_worker.models.adapters.hypernetworks import HypernetworkSet
from img2img_worker.models.adapters.lora import LoraSet
from img2img_worker.models.control.networks import ControlNetwork
from img2img_worker.models.families.family import Family
from img2img_worker.models.families.vaes import VaeChoice, VaeFile
from img2img_worker.models.prompts.conditioning import Conditioning, conditioning
from img2img_worker.models.prompts.text_encoder import Encoded
from img2img_worker.sampling.live import LivePlan, plan_of
from img2img_worker.sampling.noise import NoiseStream, noises
from img2img_worker.sampling.plan import Plan
from img2img_worker.sampling.plan_key import PlanKey

#: (model calls done, model calls in all)
OnStep = Callable[[int, int], None]


class PictureKey(NamedTuple):
    """What an init image's latent depends on."""

    pixels: bytes
    tiling: bool
    vae: VaeFile | None


class Answer(NamedTuple):
    """Where the model's answer for a row lies: in the answers of a call [R, C, h, w], and in which row."""

    answers: Tensor
    row: int


@dataclass(eq=False, kw_only=True)
class RenderState:
    """A render and the state of its sampling. `prepared` makes one."""

    render: Render
    on_step: OnStep | None
    course: Course
    prompts: Conditioning
    loras: LoraSet
    hypernetworks: HypernetworkSet
    #: of each of its controls; None: of one that has none
    networks: Sequence[ControlNetwork | None]
    #: what its init image's latent depends on; None: there is none
    digest: PictureKey | None
    #: what encodes and decodes it
    vaes: VaeChoice
    future: Future[Any] = field(default_factory=Future)
    #: embeddings of its `prompts.texts`
    texts: Sequence[Encoded] = ()
    #: its rows; None: it has no slot yet
    guidance: Guidance | None = None
    #: those of the call under way; None: no call is left
    rows: CallRows | None = None
    #: the answers of the first of them
    answers: list[Answer] = field(default_factory=list)
    #: whether the latent of that call is made
    has_begun: bool = False
    #: its place in the tensors of its size; None: not in flight
    slot: int | None = None
    #: float32 [n, C, h, w], as its course has it; None while it lies in a batch
    history: Tensor | None = None
    #: the device ran out of memory with nothing else in flight
    was_short: bool = False
    #: it has had its error
    failed: bool = False
    #: its picture is wanted after the next model call, as it is by then
    ends_early: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether no model call is left, or none is wanted any more."""
        return self.course.call is None or (self.ends_early and self.course.done > 0)

    @property
    def group(self) -> Hashable:
        """What images must have in common for their next rows to share a model call."""
        size = self.render.latent_size
        return (
            (size, None) if self.rows is None else (size, self.rows.rows[len(self.answers)].condition.shares)
        )

    @property
    def n_wanted(self) -> int:
        """How many rows are next: those not answered that may share a call with the first such."""
        done = len(self.answers)
        return 0 if self.rows is None or done == len(self.rows.ends) else self.rows.ends[done] - done

    def ask(self) -> None:
        """Takes up its course's next call: none of its rows is answered."""
        if self.guidance is None:
            raise ValueError("an image without its rows")
        call = self.course.call
        self.rows = None if call is None else self.guidance.rows(call)
        self.answers = []


def prepared(render: Render, family: Family, on_step: OnStep | None = None) -> RenderState:
    """A render as it begins.

    To be called in the thread that submits: compiling a plan, drawing noise and reading its files then
    cost the engine's thread nothing.

    Raises:
        Refused: parameters that no plan can be made of, files that are not there or do not fit.
    """
    plan = plan_of(PlanKey.of(render.params), family.levels(render.latent_size))
    vaes = family.vaes.find(render.params)
    prompts = conditioning(
        render.prompt, render.negative_prompt, render.params, earlier_calls=render.earlier_calls
    )
    return RenderState(
        render=render,
        on_step=on_step,
        course=_course(plan, render, family),
        prompts=prompts,
        loras=family.loras.find(prompts.loras),
        hypernetworks=family.hypernetworks.find(prompts.hypernetworks),
        networks=[
            family.controls.find(control.unit.model, control.unit.union_control_type)
            if control.unit.preprocessor.needs_network
            else None
            for control in render.controls
        ],
        digest=_key(render, vaes.encoder),
        vaes=vaes,
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


def _key(render: Render, vae: VaeFile | None) -> PictureKey | None:
    pixels = render.pixels
    if pixels is None:
        return None
    digest = blake2b(pixels.tobytes(), digest_size=16, salt=str(pixels.shape).encode()[:16]).digest()
    return PictureKey(digest, render.params.tiling, vae)
