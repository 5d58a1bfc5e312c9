"""The parameters of a render, with AUTOMATIC1111's names, defaults and meaning.

They are declared in `param_groups`; here are the rules between them. A value that is out of range, or that
would have no effect with the chosen sampler, is refused by name: nothing is accepted and ignored.
"""

from collections.abc import Iterable
from typing import Any, Self

from pydantic import ValidationInfo, model_validator

from img2img_shared.errors import Refused
from img2img_shared.hires import hires_size
from img2img_shared.modes import InpaintingFill
from img2img_shared.param_fields import (
    OUTPAINTING_NOISE_FIELDS,
    SWITCHES,
    WITH_EXTRAS,
    ParamFields,
)
from img2img_shared.sampler_names import split_sampler, split_second_sampler
from img2img_shared.samplers import SAMPLER_OPTIONS, SAMPLERS, SCHEDULERS, without_effect
from img2img_shared.seeds import DRAW
from img2img_shared.step_count import check_steps
from img2img_shared.suggestions import one_of

#: least side that a seed is resized from, in pixels: below 8 is no noise, and one row has no angle to another
RESIZE_MIN = 16

#: context of validation: whoever wrote it has checked what has an effect, by the rules of its time
WRITTEN = {"written": True}


class Params(ParamFields):
    """How to render: one set for all the images of a job.

    >>> Params(denoising_strength=0.4, sampler_name="DPM++ 2M Karras").scheduler
    'Karras'
    """

    @model_validator(mode="before")
    @classmethod
    def _mask_blur_sets_both(cls, values: Any) -> Any:
        if isinstance(values, dict) and "mask_blur" in values:
            values = dict(values)
            blur = values.pop("mask_blur")
            if blur is not None:
                values["mask_blur_x"] = values["mask_blur_y"] = blur
        return values

    @model_validator(mode="before")
    @classmethod
    def _sampler_name_may_hold_the_schedule(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("sampler_name", "Euler")
        scheduler = values.get("scheduler")
        if not isinstance(name, str) or not isinstance(scheduler, str | None):
            return values  # the field's own type check says so
        sampler_name, scheduler = split_sampler(name, scheduler)
        return {**values, "sampler_name": sampler_name, "scheduler": scheduler}

    @model_validator(mode="before")
    @classmethod
    def _so_may_the_second_ones(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name, scheduler = values.get("hr_sampler_name"), values.get("hr_scheduler")
        if not isinstance(name, str | None) or not isinstance(scheduler, str | None):
            return values  # the field's own type check says so
        sampler_name, scheduler = split_second_sampler(name, scheduler)
        chosen = {"hr_sampler_name": sampler_name, "hr_scheduler": scheduler}
        return values | {name: value for name, value in chosen.items() if value is not None}

    @model_validator(mode="after")
    def _hires_is_of_txt2img(self) -> Self:
        if self.enable_hr and not self.txt2img:
            raise Refused("enable_hr", True, "it needs txt2img: turn that on, or this off")
        if self.enable_hr:
            hires_size(self)
            return self
        self._only_with("enable_hr")
        return self

    @model_validator(mode="after")
    def _soft_inpainting_is_of_img2img(self) -> Self:
        if self.soft_inpainting and self.txt2img:
            raise Refused("soft_inpainting", True, "txt2img has no masks; turn one of the two off")
        if not self.soft_inpainting:
            self._only_with("soft_inpainting")
        return self

    @model_validator(mode="after")
    def _outpainting_is_of_img2img(self) -> Self:
        if not self.outpaint:
            self._only_with("outpaint")
            return self
        if self.txt2img:
            raise Refused("outpaint", self.outpaint, "txt2img has no picture that could grow; turn one off")
        if self.soft_inpainting:
            raise Refused("soft_inpainting", True, "outpainting has a mask of its own; turn one off")
        if self.outpaint_method == "noise" and self.outpaint_tile is not None:
            raise Refused("outpaint_tile", self.outpaint_tile, "it needs outpaint_method=tiles; leave it out")
        if self.outpaint_method == "tiles":
            self._only_with("outpaint_method=noise", OUTPAINTING_NOISE_FIELDS)
        elif self.inpainting_fill in (InpaintingFill.LATENT_NOISE, InpaintingFill.LATENT_NOTHING):
            reason = "leave it out: outpaint_method=noise has a start of its own"
            raise Refused("inpainting_fill", int(self.inpainting_fill), reason)
        return self

    @model_validator(mode="after")
    def _sd_upscale_is_of_img2img(self) -> Self:
        if not self.sd_upscale:
            self._only_with("sd_upscale")
        elif self.txt2img or self.outpaint:
            other = "txt2img" if self.txt2img else "outpaint"
            raise Refused("sd_upscale", True, f"it renders the tiles of a picture; give it or {other}")
        elif self.sd_upscale_overlap >= min(self.width, self.height):
            reason = "give less than width and height, which are a tile's"
            raise Refused("sd_upscale_overlap", self.sd_upscale_overlap, reason)
        return self

    @model_validator(mode="after")
    def _loopback_is_of_img2img(self) -> Self:
        if not self.loopback:
            self._only_with("loopback")
        elif self.txt2img or self.outpaint or self.sd_upscale:
            other = next(name for name in ("txt2img", "outpaint", "sd_upscale") if getattr(self, name))
            raise Refused("loopback", True, f"it renders one picture again; give it or {other}")
        return self

    @model_validator(mode="after")
    def _switches_to_a_refiner(self) -> Self:
        if not self.refiner_checkpoint:
            self._only_with("refiner_checkpoint")
        return self

    @model_validator(mode="after")
    def _control_has_what_it_needs(self) -> Self:
        if self.control_only and len(self.control) != 1:
            raise Refused("control_only", True, f"it needs one unit, and there are {len(self.control)}")
        for number, unit in enumerate(self.control):
            if unit.preprocessor.needs_network and unit.model == "None" and not self.control_only:
                reason = f"{unit.module} works with a control network; give one"
                raise Refused(f"control.{number}.model", unit.model, reason)
        return self

    @model_validator(mode="after")
    def _faces_are_restored_by_something(self) -> Self:
        if not self.restore_faces:
            self._only_with("restore_faces")
        return self

    @model_validator(mode="after")
    def _extras_render_nothing(self) -> Self:
        if not self.extras:
            self._only_with("extras")
            return self
        for name, field in type(self).model_fields.items():
            if name not in WITH_EXTRAS and getattr(self, name) != field.get_default(
                call_default_factory=True
            ):
                raise Refused(name, getattr(self, name), "leave it out: extras render nothing")
        return self

    @model_validator(mode="after")
    def _nothing_is_ignored(self, info: ValidationInfo) -> Self:
        if info.context == WRITTEN:
            return self
        inert = without_effect(self.sampler_name, self.scheduler, txt2img=self.txt2img)
        if self.enable_hr:
            inert &= without_effect(
                self.hr_sampler_name or self.sampler_name, self.hr_scheduler or self.scheduler
            )
        for name in sorted(inert):
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and (name, value) != ("eta", 0.0):
                raise Refused(name, value, f"it has no effect here; leave it out, or use {_takers(name)}")
        check_steps(self)
        brownian = [name for name in self._samplers if SAMPLERS[name].brownian_noise]
        if brownian and not self.no_dpmpp_sde_batch_determinism and self.seed < DRAW:
            raise Refused("seed", self.seed, f"{brownian[0]} needs a seed of 0 or more, or -1 to draw one")
        if self.quality is not None and self.output_format == "png":
            raise Refused(
                "quality",
                self.quality,
                "a png has no quality; leave it out, or set output_format to jpeg or webp",
            )
        if self.fit is not None and self.model_fields_set & {"width", "height"}:
            raise Refused("fit", self.fit, "give fit, or width and height, not both")
        sizes = self.seed_resize_from_w, self.seed_resize_from_h
        if any(sizes) and min(sizes) < RESIZE_MIN:
            reason = f"give both {RESIZE_MIN} or more, or both 0"
            raise Refused("seed_resize_from_w, seed_resize_from_h", sizes, reason)
        return self

    @property
    def _samplers(self) -> tuple[str, ...]:
        """The samplers of all its passes."""
        second = self.hr_sampler_name if self.enable_hr else None
        return (self.sampler_name, second) if second else (self.sampler_name,)

    @property
    def rounds_mask(self) -> bool:
        """Whether masks are made binary; those of soft inpainting are not."""
        return self.mask_round and not self.soft_inpainting

    def _only_with(self, switch: str, names: Iterable[str] | None = None) -> None:
        fields = type(self).model_fields  # which is looked up anew each time
        for name in SWITCHES[switch] if names is None else names:
            if getattr(self, name) != fields[name].default:
                raise Refused(
                    name,
                    getattr(self, name),
                    f"it needs {switch}; turn that on, or leave this out",
                )


def _takers(name: str) -> str:
    """The samplers or schedules with which a parameter has an effect, in words."""
    if name in SAMPLER_OPTIONS:
        return one_of(sampler for sampler, has in SAMPLERS.items() if name in has.options)
    if name == "sgm_noise_multiplier":
        return "txt2img with a sampler that runs on sigmas"
    schedules = [each for each in SCHEDULERS if name not in without_effect("LMS", each)]
    if schedules:
        return f"scheduler {one_of(schedules)}, with a sampler that runs on it"
    return one_of(sampler for sampler in SAMPLERS if name not in without_effect(sampler, "Automatic"))
