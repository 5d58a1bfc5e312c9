"""Which rows each model call of an image has, and how their answers are weighed."""

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

#: A1111's guidance by the picture, where a job names none
IMAGE_CFG_SCALE = 1.5


@dataclass(frozen=True, eq=False)
class CallRows:
    """The rows of one model call of an image, those that may share a call side by side."""

    rows: tuple[GuidanceRow, ...]
    #: behind the last row that may share a call with it, for each
    ends: tuple[int, ...]
    #: what answers them
    family: Family

    def kind(self, row: int) -> Hashable:
        """What the rows of a model call have in common with this one."""
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
    """One image's.

    Args:
        conditions: of each of the image's texts, as `prompts` counts them.
        family: what answers its rows.
        units: of control.
        reference_noise: what is laid over the pictures that it refers to; None: there are none.
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
        # with a scale of 1, the picture does not guide
        self._image_scale = image_scale if family.edits and image_scale != 1 else None
        self._may_skip = self._image_scale is None and bool(params.s_min_uncond or params.skip_early_cond)
        self._at = prompts.at(0) if prompts.is_constant else None
        #: of a kind of call, its rows, and the conditions that A1111 would ask for, whatever their weight
        self._rows: dict[object, tuple[CallRows, list[Condition]]] = {}
        self._noised: tuple[int, CallRows] | None = None

    def rows(self, call: Call) -> CallRows:
        """Of one model call; the same object for calls that have the same."""
        skips = self._may_skip and skips_negative(
            self._params, call.number, sigma=call.sigma, timestep=call.timestep
        )
        at = self._at or self._prompts.at(call.number)
        acting = self._acting(call)
        key = (at, skips, call.guidance, acting)
        if key not in self._rows:
            positives = [(self._row(text, acting), weight) for text, weight in at[0]]
            # texts of other lengths are asked for one after the other in A1111, and its extension then has
            # what the first saw of pictures for the second too
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
        """`rows`, of these conditions; what they refer to has another noise in each call."""
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
