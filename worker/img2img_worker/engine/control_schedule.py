"""What a render's control units mean for the rows of its model calls."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from img2img_shared.control import ControlUnit
from img2img_worker.engine.reference_schedule import check_reference, references_of
from img2img_worker.engine.render import Control, Render
from img2img_worker.models.control.amends import ColourFix, Restore, RowAmend, repainted_cells
from img2img_worker.models.control.flow_networks import FlowControlNet
from img2img_worker.models.control.image_prompt import ImagePromptNetwork
from img2img_worker.models.control.image_prompt_rows import RowImagePrompt
from img2img_worker.models.control.networks import Adapter, ControlNetwork, seen_by
from img2img_worker.models.control.references import RowReference
from img2img_worker.models.control.rows import Region, RowControl
from img2img_worker.models.families.condition import Condition
from img2img_worker.models.families.family import Family
from img2img_worker.models.steps import Steps
from img2img_worker.models.transfer import to_device

#: modules whose networks are gentler in a hires fix' second pass, or small errors become edges
_SOFT_IN_HIRES = ("canny", "mlsd")


class Encode(Protocol):
    """Makes a latent [C, h, w] of a picture [H, W, 3]."""

    def __call__(self, picture: NDArray[Any]) -> Steps[Tensor]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitRows:
    """One unit's part in the rows of an image."""

    start: float
    end: float
    #: None: it says nothing
    positive: RowControl | RowImagePrompt | None
    negative: RowControl | RowImagePrompt | None
    #: what the image refers to
    reference: RowReference | None = None
    negative_reference: RowReference | None = None
    #: what it does to answers whatever the step
    amends: tuple[RowAmend, ...] = ()
    negative_amends: tuple[RowAmend, ...] = ()

    def acts(self, done: float) -> bool:
        """Whether its network has a say once that share of the steps is done."""
        return self.start <= done <= self.end


def network_of(
    control: Control, family: Family, render: Render
) -> ControlNetwork | ImagePromptNetwork | None:
    """What a control of a render runs; None: nothing. Thread-safe.

    Raises:
        Refused: there is no such network, it is meant for another kind of checkpoint, or something in the
            unit means nothing to it.
    """
    if control.amends_only:
        return None
    if control.unit.preprocessor.is_reference:
        check_reference(control, family, render.params)
    network = family.controls.of_unit(control.unit, render.pinned)
    if isinstance(network, FlowControlNet):
        network.check(control.unit, render.latent_size)
    return network


def as_adapters_see(
    controls: Sequence[Control], networks: Sequence[ControlNetwork | ImagePromptNetwork | None]
) -> list[Control]:
    """Controls whose adapters see one picture each: that of the first of their units that acts.

    A1111's extension asks an adapter once in a render, and all units that name it go by the answer.
    """
    firsts: dict[str, Control] = {}
    for control, network in zip(controls, networks, strict=True):
        if isinstance(network, Adapter):
            first = firsts.setdefault(network.key, control)
            if control.unit.guidance_start < first.unit.guidance_start:
                firsts[network.key] = control
    return [
        replace(control, first_pass=_first_pass_picture(firsts[network.key]))
        if isinstance(network, Adapter)
        else control
        for control, network in zip(controls, networks, strict=True)
    ]


def _first_pass_picture(control: Control) -> NDArray[Any]:
    return control.picture if control.first_pass is None else control.first_pass


def unit_rows(
    control: Control,
    network: ControlNetwork | ImagePromptNetwork | None,
    *,
    hires: bool,
    is_xl: bool,
    encode: Encode,
    sigmas: Tensor,
    tells_sides: bool = True,
) -> Steps[UnitRows]:
    """
    Args:
        network: None where the unit has none.
        hires: whether this is a hires fix' second pass.
        is_xl: whether the checkpoint is SDXL.
        sigmas: [N] of the model's whole timesteps, on its device.
        tells_sides: whether negative rows are told from others, where a network is kept from them or
            "+sharp" acts on them. In a second pass A1111's extension knows none: it has looked for the
            prompts before they were read.
    """
    unit = control.unit
    positive: RowControl | RowImagePrompt | None = None
    negative: RowControl | RowImagePrompt | None = None
    if isinstance(network, ImagePromptNetwork):
        positive, negative = _image_prompts(control, network)
    elif network is not None:
        scales = _scales(unit, network, hires=hires)
        if any(scales):
            positive = yield from _row(control, network, scales, sigmas.device)
            is_one_sided = unit.control_mode == "ControlNet is more important" or network.is_pooled
            negative = None if is_one_sided and tells_sides else positive
    references: tuple[RowReference | None, RowReference | None] = None, None
    if unit.preprocessor.is_reference:
        origin = yield from encode(np.ascontiguousarray(control.picture[:, :, :3]))
        references = references_of(unit, origin, hires=hires, is_xl=is_xl)
    amends = yield from _amends(control, hires=hires, encode=encode, sigmas=sigmas, tells_sides=tells_sides)
    return UnitRows(
        start=unit.guidance_start,
        end=unit.guidance_end,
        positive=positive,
        negative=negative,
        reference=references[0],
        negative_reference=references[1],
        amends=amends[0],
        negative_amends=amends[1],
    )


def with_controls(
    condition: Condition,
    units: Sequence[UnitRows],
    acting: Sequence[bool],
    *,
    negative: bool,
    sees_as_positive: bool,
    is_compiled: bool = False,
) -> Condition:
    """`condition` with what the units say in such a row, those that act.

    Args:
        sees_as_positive: it sees pictures as rows of the prompt do, even if it is negative.
        is_compiled: the denoiser runs as graphs, which know nothing of pictures beside the text, or of those
            that are referred to: rows that have some keep to themselves.
    """
    all_acting = [unit for unit, acts in zip(units, acting, strict=True) if acts]
    rows = [unit.negative if negative else unit.positive for unit in all_acting]
    seeing = [unit.negative if negative and not sees_as_positive else unit.positive for unit in all_acting]
    image_prompts = tuple(row for row in seeing if isinstance(row, RowImagePrompt))
    each_reference = (unit.negative_reference if negative else unit.reference for unit in all_acting)
    references = tuple(each for each in each_reference if each is not None)
    is_apart = is_compiled and bool(image_prompts or references)
    amends = [amend for unit in units for amend in (unit.negative_amends if negative else unit.amends)]
    return replace(
        condition,
        shares=(condition.shares, bool(image_prompts), bool(references)) if is_apart else condition.shares,
        controls=tuple(row for row in rows if isinstance(row, RowControl)),
        image_prompts=image_prompts,
        references=references,
        # colours first, in the extension, whatever the units' order
        amends=tuple(sorted(amends, key=lambda amend: isinstance(amend, Restore))),
    )


def _scales(unit: ControlUnit, network: ControlNetwork, *, hires: bool) -> tuple[float, ...]:
    if unit.advanced_weighting is not None:
        return unit.advanced_weighting
    is_soft = unit.control_mode != "Balanced" or (
        hires and any(name in unit.module for name in _SOFT_IN_HIRES)
    )
    return tuple(unit.weight * (scale if is_soft else 1.0) for scale in network.soft_scales)


def _row(
    control: Control, network: ControlNetwork, scales: tuple[float, ...], device: torch.device
) -> Steps[RowControl]:
    mask = None if control.region is None else torch.from_numpy(control.region)
    first_pass = (
        None if control.first_pass is None else to_device(torch.from_numpy(control.first_pass), device)
    )
    picture = to_device(torch.from_numpy(control.picture), device)
    return RowControl(
        network=network,
        seen=(yield from seen_by(network, picture, first_pass, mask)),
        scales=scales,
        region=Region(mask) if mask is not None and not network.is_adapter else None,
    )


def _image_prompts(
    control: Control, network: ImagePromptNetwork
) -> tuple[RowImagePrompt | None, RowImagePrompt | None]:
    """Of positive and of negative rows; control modes mean nothing to it, as in A1111's extension."""
    unit, adapter = control.unit, network.adapter
    shares = unit.advanced_weighting or (unit.weight,) * adapter.n_blocks
    weights = tuple(max(0.0, shares[block]) for block in adapter.blocks)
    if not any(weights):
        return None, None
    region = None if control.region is None else Region(torch.from_numpy(control.region))
    pictures = (control.picture, *control.more)
    pair = network.prompts([torch.from_numpy(each) for each in pictures])
    positive, negative = (RowImagePrompt(prompt=each, weights=weights, region=region) for each in pair)
    return positive, negative


def _amends(
    control: Control, *, hires: bool, encode: Encode, sigmas: Tensor, tells_sides: bool
) -> Steps[tuple[tuple[RowAmend, ...], tuple[RowAmend, ...]]]:
    """Of positive and of negative rows."""
    unit, picture = control.unit, control.picture
    weight = min(1.0, unit.weight)
    radius, sharpness = unit.thresholds
    if "colorfix" in unit.module:
        cells = int(radius) * (2 if hires and not control.amends_only else 1)
        origin = yield from encode(picture[:, :, :3])
        fix = ColourFix(sigmas=sigmas, weight=weight, origin=origin, radius=cells)
        softens = "+sharp" in unit.module and tells_sides
        softer = replace(fix, softened=sharpness * 0.01) if softens else fix
        return (fix,), (softer,)
    if "inpaint_only" in unit.module and picture.shape[2] == 4:
        mask = to_device(torch.from_numpy(picture[:, :, 3].astype(np.float32) / 255), sigmas.device)
        keep = Restore(
            sigmas=sigmas,
            weight=weight,
            origin=(yield from encode(np.ascontiguousarray(picture[:, :, :3]))),
            mask=repainted_cells(mask[None]),
        )
        return (keep,), (keep,)
    return (), ()
