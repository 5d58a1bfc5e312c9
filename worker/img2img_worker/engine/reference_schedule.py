"""What a render's reference units mean for the rows of its model calls."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from img2img_shared.control import ControlUnit
from img2img_shared.errors import Refused, Summary
from img2img_shared.params import Params
from img2img_worker.engine.render import Control, Render
from img2img_worker.models.control.references import RowReference
from img2img_worker.models.families.condition import Condition
from img2img_worker.models.families.family import Family, GuidanceRow
from img2img_worker.models.families.stable_diffusion import StableDiffusion


def check_reference(control: Control, family: Family, params: Params) -> None:
    """
    Raises:
        Refused: something that a reference has no meaning for, or that has none for it.
    """
    unit = control.unit
    if not isinstance(family, StableDiffusion) or not family.can_refer or family.edits:
        reason = f"checkpoints of {family.name} have no references; use one of SD 1.x, 2.x or XL"
        raise Refused("control.module", unit.module, reason)
    if "adain" in unit.module and not family.can_match:
        reason = "it is defined for UNets as they were published, which this is not; use reference_only"
        raise Refused("control.module", unit.module, reason)
    if control.region is not None:
        reason = f"{unit.module} acts everywhere; leave the region out"
        raise Refused("control.effective_region_mask", Summary("a picture"), reason)
    if unit.advanced_weighting is not None:
        reason = f"{unit.module} has no residuals; leave it out, and set weight"
        raise Refused("control.advanced_weighting", unit.advanced_weighting, reason)
    if params.token_merging_ratio:
        reason = f"{unit.module} refers to all places of a picture; leave it out"
        raise Refused("token_merging_ratio", params.token_merging_ratio, reason)


def references_of(
    unit: ControlUnit, origin: Tensor, *, hires: bool, is_xl: bool
) -> tuple[RowReference, RowReference]:
    """What a unit says in positive and in negative rows.

    Args:
        origin: the picture's latent [C, h, w].
        hires: whether this is a hires fix' second pass.
    """
    positive = RowReference(
        origin=origin,
        attends=unit.module != "reference_adain",
        matches="adain" in unit.module,
        weight=unit.weight,
        fidelity=0.0,
    )
    # SDXL's attention takes less of it, as the extension has found
    kept = float(unit.thresholds[0]) ** (3 if is_xl else 1)
    if unit.control_mode == "ControlNet is more important":
        kept = 1.0
    elif unit.control_mode != "Balanced" or hires:
        kept = 0.0
    return positive, replace(positive, fidelity=kept)


def reference_noise(render: Render, shape: tuple[int, int, int]) -> "ReferenceNoise | None":
    """What a render's references are laid under; None: it has none."""
    if not any(control.unit.preprocessor.is_reference for control in render.controls):
        return None
    # each picture once, as there
    encoded = {
        control.picture[:, :, :3].tobytes() for control in render.controls if _is_encoded(control.unit)
    }
    return ReferenceNoise(render.seed, len(encoded), shape)


def _is_encoded(unit: ControlUnit) -> bool:
    """Whether its picture's latent has a part in what it does."""
    return unit.preprocessor.is_reference or unit.preprocessor.amends


class ReferenceNoise:
    """The noises of one image's references, drawn as A1111's extension draws them for an image alone.

    They come from torch's own stream of numbers, which the seed has begun, and which the VAE draws from, too.

    Args:
        n_encoded: pictures of control units that are encoded before the first model call.
        shape: [C, h, w] of the latent.
    """

    def __init__(self, seed: int, n_encoded: int, shape: tuple[int, int, int]) -> None:
        self._stream = torch.Generator().manual_seed(seed)
        self._shape = shape
        for _ in range(n_encoded):
            torch.randn(1, *shape, generator=self._stream)

    def laid_over(self, rows: Sequence[GuidanceRow], conditions: Sequence[Condition]) -> list[GuidanceRow]:
        """The rows of an image's next model call, with the noises of that call.

        Args:
            conditions: of all rows that A1111 has in it, whatever their weight; the negative prompt's last.
        """
        drawn = self._draw(conditions)
        return [_with_noises(row, drawn[id(row.condition)]) for row in rows]

    def _draw(self, conditions: Sequence[Condition]) -> dict[int, tuple[Tensor, ...]]:
        """Of each condition, by its identity, one for each of its references."""
        lengths = {each.length for each in conditions}
        # rows whose texts are of other lengths are other calls there
        calls = [conditions] if len(lengths) == 1 else [conditions[:-1], conditions[-1:]]
        found: dict[int, tuple[Tensor, ...]] = {}
        for call in calls:
            n = max((len(each.references) for each in call), default=0)
            drawn = [torch.randn(len(call), *self._shape, generator=self._stream) for _ in range(n)]
            found |= {id(each): tuple(own[place] for own in drawn) for place, each in enumerate(call)}
        return found


def _with_noises(row: GuidanceRow, noises: Sequence[Tensor]) -> GuidanceRow:
    references = tuple(
        replace(reference, noise=noise)
        for reference, noise in zip(row.condition.references, noises, strict=True)
    )
    return replace(row, condition=replace(row.condition, references=references))
