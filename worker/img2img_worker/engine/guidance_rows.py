"""Decides which rows each model call of an image has, and the weights of their answers."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Self

from img2img_shared.params import Params
from img2img_shared.samplers import SAMPLERS
from img2img_worker.engine.control_schedule import UnitRows, with_controls
from img2img_worker.engine.course import Call
from img2img_worker.engine.reference_schedule import ReferenceNoise
from img2img_worker.models.families.condition import Condition
from img2img_worker.models.families.family import Family, GuidanceRow, guide
from img2img_worker.models.prompts.conditioning import Conditioning
from img2img_worker.sampling.clock import share_done
from img2img_worker.sampling.guidance import skips_negative

#: A1111's default guidance by the picture
IMAGE_CFG_SCALE = 1.5


@dataclass(frozen=True, eq=False)
class CallRows:
    """The rows of one model call of an image; rows that may share a call are side by side."""

    rows: tuple[GuidanceRow, ...]
    #: for each row, the end of the stretch of rows that may share a call with it
    ends: tuple[int, ...]
    #: the checkpoint that answers them
    family: Family

    def kind(self, row: int) -> Hashable:
        """The key that rows must have in common to share a model call with this one."""
        return id(self.family), self.rows[row].condition.shares

    @classmethod
    def of(cls, rows: Iterable[GuidanceRow], family: Family) -> Self:
        kinds: dict[Hashable, list[GuidanceRow]] = {}
        for row in rows:
            kinds.setdefault(row.condition.shares, []).append(row)
        ends = accumulate(len(kind) for kind in kinds.values())
        return cls(
            tuple(chain.from_iterable(kinds.values())),
            tuple(
                chain.from_iterable([end] * len(kind) for end, kind in zip(ends, kinds.values(), strict=True))
            ),
            family,
        )


class Guidance:
    """The guidance of one image: makes the rows of each of its model calls.

    Args:
        conditions: of the image's texts, in the order of `prompts.texts`.
        family: the checkpoint that answers its rows.
        units: its control units.
        reference_noise: the noise of the pictures that it refers to; None: it refers to none.
    """

    def __init__(
        self,
        params: Params,
        prompts: Conditioning,
        conditions: Sequence[Condition],
        family: Family,
        *,
        units: Sequence[UnitRows] = (),
        reference_noise: ReferenceNoise | None = None,
    ) -> None:
        self._params, self._prompts, self._conditions, self._family = params, prompts, conditions, family
        self._units, self._reference_noise = units, reference_noise
        self._scale = params.cfg_scale * SAMPLERS[params.sampler_name].cfg_scale_multiplier
        image_scale = IMAGE_CFG_SCALE if params.image_cfg_scale is None else params.image_cfg_scale
        # with a scale of 1 the picture gives no guidance
        self._image_scale = image_scale if family.edits and image_scale != 1 else None
        self._may_skip = self._image_scale is None and bool(params.s_min_uncond or params.skip_early_cond)
        self._at = prompts.at(0) if prompts.is_constant else None
        #: each kind of call's rows, and the conditions that A1111 would have in it, whatever their weight
        self._rows: dict[object, tuple[CallRows, list[Condition]]] = {}
        self._noised: tuple[int, CallRows] | None = None

    def rows(self, call: Call) -> CallRows:
        """The rows of one model call; the same object for calls with the same rows."""
        skips = self._may_skip and skips_negative(
            self._params, call.number, sigma=call.sigma, timestep=call.timestep
        )
        at = self._at or self._prompts.at(call.number)
        acting = self._acting(call)
        key = (at, skips, call.guidance, acting)
        if key not in self._rows:
            positives = [(self._row(text, acting), weight) for text, weight in at[0]]
            # A1111 calls the model for texts of different lengths one after the other, and its extension then
            # shows the second what the first saw of pictures
            length = self._conditions[at[1]].length
            sees_as_positive = max(condition.length for condition, _ in positives) != length
            negative = self._row(at[1], acting, negative=True, sees_as_positive=sees_as_positive)
            rows = CallRows.of(
                without_negative(positives, call.guidance)
                if skips
                else self._guided(positives, negative, call.guidance),
                self._family,
            )
            self._rows[key] = rows, [*(each for each, _ in positives), *(() if skips else (negative,))]
        return self._with_noise(*self._rows[key], call.number)

    def _with_noise(self, rows: CallRows, conditions: Sequence[Condition], number: int) -> CallRows:
        """`rows` with the noise that the pictures to which they refer have in this call."""
        if self._reference_noise is None or not any(each.references for each in conditions):
            return rows
        if self._noised is None or self._noised[0] != number:
            noised = self._reference_noise.laid_over(rows.rows, conditions)
            self._noised = number, CallRows.of(noised, self._family)
        return self._noised[1]

    def _acting(self, call: Call) -> tuple[bool, ...]:
        if not self._units:
            return ()
        done = share_done(self._params, call.number)
        return tuple(unit.acts(done) for unit in self._units)

    def _row(
        self, text: int, acting: Sequence[bool], *, negative: bool = False, sees_as_positive: bool = True
    ) -> Condition:
        condition = self._conditions[text]
        if not self._units:
            return condition
        return with_controls(
            condition,
            self._units,
            acting,
            negative=negative,
            sees_as_positive=sees_as_positive,
            is_compiled=self._family.is_compiled,
        )

    def _guided(
        self, positives: Sequence[tuple[Condition, float]], negative: Condition, guidance: float
    ) -> list[GuidanceRow]:
        image_scale = None if self._image_scale is None else self._image_scale * guidance
        return guide(positives, negative, scale=self._scale * guidance, image_scale=image_scale)


def without_negative(positives: Sequence[tuple[Condition, float]], scale: float = 1.0) -> list[GuidanceRow]:
    """Guidance at a scale of 1 (A1111's) in which the first prompt's answer stands in for the negative's."""
    (first, _), *others = ((condition, scale * share) for condition, share in positives)
    shares = [(first, 1 - sum(share for _, share in others)), *others]
    return [GuidanceRow(condition=condition, weight=share) for condition, share in shares if share != 0]
