"""The axes of A1111's "X/Y/Z plot": what may vary from cell to cell of a sheet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, permutations
from pathlib import PurePath
from typing import Any

from img2img_gateway.sdapi.request import LONGEST_PROMPT, RenderRequest
from img2img_gateway.sdapi.scripts.xyz_values import numbers, split
from img2img_shared.errors import Refused, Summary
from img2img_shared.seeds import DRAW, draw_seed
from img2img_shared.suggestions import unknown_name

#: of a request, a value, and all values of its axis: the fields that the value changes
Changes = Callable[[RenderRequest, Any, Sequence[Any]], dict[str, Any]]

#: values whose order is what varies: more have more than 1,000
_MOST_PARTS = 6


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis of the plot."""

    label: str
    changes: Changes
    #: of numbers; None: its values are texts
    kind: type[int] | type[float] | None = None
    #: what a caption says of a value
    caption: Callable[[str, Any], str] = lambda label, value: f"{label}: {_rounded(value)}"
    #: whether A1111's page lists values to choose from
    has_choices: bool = False
    #: whether it is every order of the values that is rendered
    permutes: bool = False
    of_img2img: bool = True
    of_txt2img: bool = True

    def values(self, text: str, chosen: Sequence[str], field: str) -> list[Any]:
        """The values in `text`, or the chosen ones if the page has a list; numbers may be written as ranges.

        ``1-5`` is 1, 2, 3, 4, 5; ``1-5 (+2)`` is 1, 3, 5; ``1-10 [4]`` is 1, 4, 7, 10.

        Raises:
            Refused: names `field`: there are no values, too many, or one is not a number.
        """
        if self is NOTHING:
            return [0]
        texts = list(chosen) or split(text)
        if not any(texts):
            raise Refused(field, text, f"give values of {self.label}, with commas between them")
        if self.kind is not None:
            texts = [each for each in texts if each]
            return list(chain.from_iterable(numbers(each, self.kind, field) for each in texts))
        if not self.permutes:
            return texts
        if len(texts) > _MOST_PARTS:
            raise Refused(field, text, f"give at most {_MOST_PARTS}, whose every order is rendered")
        return list(permutations(texts))

    def with_seeds(self, values: list[Any]) -> list[Any]:
        """The values, with seeds of -1 drawn."""
        return (
            [draw_seed(value) if value == DRAW else value for value in values] if self.is_of_seeds else values
        )

    @property
    def is_of_seeds(self) -> bool:
        """Whether its values are seeds."""
        return self.label in ("Seed", "Var. seed")


def axis_of(wanted: int | str, field: str, *, img2img: bool) -> Axis:
    """An axis by its index in A1111's list, or its label.

    Raises:
        Refused: names `field`: there is no such axis.
    """
    axes = axes_of(img2img=img2img)
    if isinstance(wanted, int) and 0 <= wanted < len(axes):
        return axes[wanted]
    for axis in axes:
        if axis.label == wanted:
            return axis
    if isinstance(wanted, int):
        raise Refused(field, wanted, f"give a number from 0 to {len(axes) - 1}, or a label")
    raise Refused(field, wanted, unknown_name("axis", wanted, [axis.label for axis in axes]))


def axes_of(*, img2img: bool) -> list[Axis]:
    """The axes of one of the two routes, in A1111's order, by which its clients count."""
    return [axis for axis in _AXES if (axis.of_img2img if img2img else axis.of_txt2img)]


def _rounded(value: Any) -> Any:
    return round(value, 8) if isinstance(value, float) else value


def _plain(_: str, value: Any) -> str:
    return str(_rounded(value))


def _file_name(_: str, value: str) -> str:
    return PurePath(value).name


def _field(name: str) -> Changes:
    return lambda _, value, _values: {name: value}


def _option(name: str) -> Changes:
    return lambda request, value, _: {"override_settings": {**(request.override_settings or {}), name: value}}


def _switch(name: str) -> Changes:
    return lambda request, value, values: _option(name)(request, value.lower() == "true", values)


def _nothing(_: RenderRequest, _value: Any, _values: Sequence[Any]) -> dict[str, Any]:
    return {}


def _replaced(request: RenderRequest, value: str, values: Sequence[str]) -> dict[str, Any]:
    """The change that replaces the first value in the prompts by another."""
    sought, prompts = values[0], (request.prompt, request.negative_prompt)
    if not any(sought in prompt for prompt in prompts):
        reason = f"Prompt S/R did not find it in prompt or negative_prompt; give {sought!r} a place there"
        raise Refused("script_args", sought, reason)
    longest = max(len(prompt) + prompt.count(sought) * len(value) for prompt in prompts)
    if longest > LONGEST_PROMPT:
        raise Refused("script_args", Summary(f"{longest:,} characters"), "they make too long a prompt")
    prompt, negative_prompt = (prompt.replace(sought, value) for prompt in prompts)
    return {"prompt": prompt, "negative_prompt": negative_prompt}


def _reordered(request: RenderRequest, parts: Sequence[str], _: Sequence[Any]) -> dict[str, Any]:
    """The change that reorders parts of the prompt; before a missing one, A1111 cuts the last letter off."""
    prompt, between = request.prompt, []
    for part in sorted(parts, key=prompt.find):
        at = prompt.find(part)
        between.append(prompt[:at])
        prompt = prompt[at + len(part) :]
    return {"prompt": "".join(chain.from_iterable(zip(between, parts, strict=True))) + prompt}


def _styles(request: RenderRequest, value: str, _: Sequence[str]) -> dict[str, Any]:
    return {"styles": [*(request.styles or []), *value.split(",")]}


def _uni_pc_order(request: RenderRequest, value: int, values: Sequence[int]) -> dict[str, Any]:
    return _option("uni_pc_order")(request, min(value, request.steps - 1), values)


def _faces(request: RenderRequest, value: str, values: Sequence[str]) -> dict[str, Any]:
    for name in ("CodeFormer", "GFPGAN"):
        if value.lower() == name.lower():
            return {"restore_faces": True, **_option("face_restoration_model")(request, name, values)}
    return {"restore_faces": value.lower() in ("true", "yes", "y", "1")}


def _size(_: RenderRequest, value: str, _values: Sequence[str]) -> dict[str, Any]:
    width, height = value.partition("x")[::2]
    try:
        return {"width": int(width), "height": int(height)}
    except ValueError:
        raise Refused("script_args", value, "give a size such as 512x768") from None


NOTHING = Axis(label="Nothing", changes=_nothing, caption=lambda _, _value: "")
#: in A1111's order
_AXES = (
    NOTHING,
    Axis(label="Seed", kind=int, changes=_field("seed")),
    Axis(label="Var. seed", kind=int, changes=_field("subseed")),
    Axis(label="Var. strength", kind=float, changes=_field("subseed_strength")),
    Axis(label="Steps", kind=int, changes=_field("steps")),
    Axis(label="Hires steps", kind=int, changes=_field("hr_second_pass_steps"), of_img2img=False),
    Axis(label="CFG Scale", kind=float, changes=_field("cfg_scale")),
    Axis(label="Image CFG Scale", kind=float, changes=_field("image_cfg_scale"), of_txt2img=False),
    Axis(label="Prompt S/R", changes=_replaced, caption=_plain),
    Axis(label="Prompt order", changes=_reordered, caption=lambda _, parts: ", ".join(parts), permutes=True),
    Axis(label="Sampler", changes=_field("sampler_name"), caption=_plain, has_choices=True),
    Axis(label="Hires sampler", changes=_field("hr_sampler_name"), has_choices=True, of_img2img=False),
    Axis(
        label="Checkpoint name",
        changes=_option("sd_model_checkpoint"),
        caption=_file_name,
        has_choices=True,
    ),
    Axis(label="Negative Guidance minimum sigma", kind=float, changes=_field("s_min_uncond")),
    Axis(label="Sigma Churn", kind=float, changes=_field("s_churn")),
    Axis(label="Sigma min", kind=float, changes=_field("s_tmin")),
    Axis(label="Sigma max", kind=float, changes=_field("s_tmax")),
    Axis(label="Sigma noise", kind=float, changes=_field("s_noise")),
    Axis(label="Schedule type", changes=_field("scheduler"), has_choices=True),
    Axis(label="Schedule min sigma", kind=float, changes=_option("sigma_min")),
    Axis(label="Schedule max sigma", kind=float, changes=_option("sigma_max")),
    Axis(label="Schedule rho", kind=float, changes=_option("rho")),
    Axis(label="Beta schedule alpha", kind=float, changes=_option("beta_dist_alpha")),
    Axis(label="Beta schedule beta", kind=float, changes=_option("beta_dist_beta")),
    Axis(label="Eta", kind=float, changes=_field("eta")),
    Axis(label="Clip skip", kind=int, changes=_option("CLIP_stop_at_last_layers")),
    Axis(label="Denoising", kind=float, changes=_field("denoising_strength")),
    Axis(label="Initial noise multiplier", kind=float, changes=_field("initial_noise_multiplier")),
    Axis(label="Extra noise", kind=float, changes=_option("img2img_extra_noise")),
    Axis(label="Hires upscaler", changes=_field("hr_upscaler"), has_choices=True, of_img2img=False),
    Axis(
        label="Cond. Image Mask Weight",
        kind=float,
        changes=_option("inpainting_mask_weight"),
        of_txt2img=False,
    ),
    Axis(label="VAE", changes=_option("sd_vae"), has_choices=True),
    Axis(label="Styles", changes=_styles, has_choices=True),
    Axis(label="UniPC Order", kind=int, changes=_uni_pc_order),
    Axis(label="Face restore", changes=_faces, caption=_plain),
    Axis(label="Token merging ratio", kind=float, changes=_option("token_merging_ratio")),
    Axis(label="Token merging ratio high-res", kind=float, changes=_option("token_merging_ratio_hr")),
    Axis(
        label="Always discard next-to-last sigma",
        changes=_switch("always_discard_next_to_last_sigma"),
        has_choices=True,
    ),
    Axis(label="SGM noise multiplier", changes=_switch("sgm_noise_multiplier"), has_choices=True),
    Axis(
        label="Refiner checkpoint",
        changes=_field("refiner_checkpoint"),
        caption=_file_name,
        has_choices=True,
    ),
    Axis(label="Refiner switch at", kind=float, changes=_field("refiner_switch_at")),
    Axis(label="RNG source", changes=_option("randn_source"), has_choices=True),
    Axis(label="FP8 mode", changes=_option("fp8_storage"), has_choices=True),
    Axis(label="Size", changes=_size),
)
