"""A control unit: a network that makes a render follow a picture's edges, depth or poses (ControlNet)."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from img2img_shared.control_modules import Module, Number, find_module
from img2img_shared.errors import Refused

#: units of a render, and pictures that one may look at, if it is an IP-Adapter's
MOST_UNITS = MOST_PICTURES = 10
#: the text of a preprocessed picture's PNG that tells the poses that it shows, as JSON
POSES_TEXT = "poses"

ControlMode = Literal["Balanced", "My prompt is more important", "ControlNet is more important"]
ControlResizeMode = Literal["Just Resize", "Crop and Resize", "Resize and Fill"]
UnionType = Literal[
    "OpenPose",
    "Depth",
    "Soft Edge",
    "Hard Edge",
    "Normal Map",
    "Segmentation",
    "Tile",
    "Inpaint",
    "Blur",
    "Gray",
    "Low Quality",
    "Unknown",
]
#: in the order in which SDXL's unions of networks count them; the three behind are known to Flux' alone
UNION_TYPES: tuple[UnionType, ...] = get_args(UnionType)[:8]
HiresOption = Literal["Both", "Low res only", "High res only"]


class ControlUnit(BaseModel):
    """A control unit; its fields have the names of A1111's extension.

    The picture, its mask and the region are an input's pictures of the roles that `control_roles` names.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [{"module": "canny", "model": "control_v11p_sd15_canny", "weight": 0.8}]
        },
    )

    module: Annotated[
        str,
        Field(
            title="Preprocessor",
            max_length=100,
            description="Preprocessor that makes the control picture; none: the picture is one already.",
        ),
    ] = "none"
    model: Annotated[
        str,
        Field(
            title="Network",
            max_length=1000,
            description="Control network, by its file's name or a part of that.",
            json_schema_extra={"x-files": "control"},
        ),
    ] = "None"
    weight: Annotated[
        float, Field(title="Control weight", ge=0, le=2, description="How strongly the network acts.")
    ] = 1.0
    resize_mode: Annotated[
        ControlResizeMode, Field(description="How the control picture is fitted to the result's size.")
    ] = "Crop and Resize"
    processor_res: Annotated[
        int | None,
        Field(
            title="Preprocessor resolution",
            ge=0,
            le=2048,
            description="Shorter side that the preprocessor works at; None: its default.",
        ),
    ] = None
    threshold_a: Annotated[
        float | None,
        Field(title="Threshold A", description="First threshold of the preprocessor; None: its default."),
    ] = None
    threshold_b: Annotated[
        float | None,
        Field(title="Threshold B", description="Second threshold of the preprocessor; None: its default."),
    ] = None
    guidance_start: Annotated[
        float,
        Field(
            title="Starting control step",
            ge=0,
            le=1,
            description="Share of the steps before which the network does not act.",
        ),
    ] = 0.0
    guidance_end: Annotated[
        float,
        Field(
            title="Ending control step",
            ge=0,
            le=1,
            description="Share of the steps after which it does not act any more.",
        ),
    ] = 1.0
    pixel_perfect: Annotated[
        bool, Field(description="The preprocessor works at the resolution that the result will have.")
    ] = False
    control_mode: Annotated[
        ControlMode, Field(description="Whether the prompt or the network counts more.")
    ] = "Balanced"
    inpaint_crop_input_image: Annotated[
        bool,
        Field(
            title="Crop as the picture is",
            description='With "only masked", the control picture is cropped as the picture is.',
        ),
    ] = True
    hr_option: Annotated[
        HiresOption, Field(title="Hires fix passes", description="In which passes of a hires fix it acts.")
    ] = "Both"
    advanced_weighting: Annotated[
        tuple[float, ...] | None,
        Field(
            title="Weights of residuals",
            min_length=1,
            max_length=32,
            description="A weight for each of the network's residuals, in place of `weight` and mode; those "
            "without one have no effect.",
        ),
    ] = None
    union_control_type: Annotated[
        UnionType,
        Field(
            title="Control type of a union",
            description="Kind of the control picture, for a union ControlNet.",
        ),
    ] = "Unknown"
    save_detected_map: Annotated[
        bool,
        Field(title="Store the control picture", description="Store the control picture beside the result."),
    ] = False

    @field_validator("module")
    @classmethod
    def _module_is_known(cls, value: str) -> str:
        if find_module(value) is None:
            raise Refused("module", value, "give a preprocessor of GET /controlnet/module_list")
        return value

    @field_validator("processor_res", "threshold_a", "threshold_b")
    @classmethod
    def _is_in_its_range(cls, value: Number | None, info: ValidationInfo) -> Number | None:
        module = find_module(info.data.get("module", ""))
        if value is None or module is None:
            return value
        sliders = {
            "processor_res": module.resolution,
            "threshold_a": module.slider_1,
            "threshold_b": module.slider_2,
        }
        slider = sliders[str(info.field_name)]
        if slider.taken(value) != value:
            reason = f"{module.name} takes {slider.minimum} to {slider.maximum}; give that, or leave it out"
            raise Refused(str(info.field_name), value, reason)
        return value

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.guidance_start > self.guidance_end:
            raise Refused(
                "guidance_start", self.guidance_start, f"give at most guidance_end, {self.guidance_end}"
            )
        return self

    @property
    def preprocessor(self) -> Module:
        module = find_module(self.module)
        if module is None:
            raise ValueError(f"no module {self.module!r}")
        return module

    @property
    def resolution(self) -> Number:
        """The resolution its module works at, without `pixel_perfect`."""
        return self.preprocessor.resolution.taken(self.processor_res)

    @property
    def thresholds(self) -> tuple[Number, Number]:
        """The two thresholds that its module is given."""
        module = self.preprocessor
        return module.slider_1.taken(self.threshold_a), module.slider_2.taken(self.threshold_b)


def control_roles(index: int) -> tuple[str, str, str]:
    """The roles of unit `index`: its control picture, that picture's mask, and the region where the unit
    acts.
    """
    return f"control/{index}", f"control/{index}/mask", f"control/{index}/region"


def picture_roles(index: int) -> list[tuple[str, str]]:
    """The roles of all pictures that unit `index` may use, each with its mask's; most units use only the
    first.
    """
    own, mask, _ = control_roles(index)
    others = [f"{own}/{number}" for number in range(1, MOST_PICTURES)]
    return [(own, mask), *((other, f"{other}/mask") for other in others)]


def find_name(model: str, names: Iterable[str], titles: Mapping[str, str]) -> str | None:
    """The name among `names` that `model` means, or None.

    That is a title or a name in any case, or else the shortest name that contains it.

    Args:
        titles: names by their titles.
    """
    if model in titles:
        return titles[model]
    wanted = model.lower()
    by_name = {name.lower(): name for name in names}
    if not wanted:
        return None
    if wanted in by_name:
        return by_name[wanted]
    holding = sorted((name for name in by_name if wanted in name), key=len)
    return by_name[holding[0]] if holding else None
