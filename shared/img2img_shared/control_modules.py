"""The preprocessors that turn a picture into a control picture, by the names of A1111's ControlNet.

All that it lists are here, in its order, so that menus show what users know. Which of them a worker can run
is decided there (`img2img_worker.pictures.control`).
"""

from dataclasses import dataclass
from typing import Literal

#: a number as A1111 shows it: whole numbers stay whole
Number = float | int
#: the models that see for an IP-Adapter, and pixels of a side of what they see
ClipKind = Literal["clip_h", "clip_g"]
CLIP_SIDE = 224


@dataclass(frozen=True)
class Slider:
    """A numeric option of a module, with its range."""

    name: str
    value: Number
    minimum: Number
    maximum: Number
    step: Number

    def taken(self, given: Number | None) -> Number:
        """`given`, or the default if it is None or out of range, as in A1111."""
        return self.value if given is None or not self.minimum <= given <= self.maximum else given


_RESOLUTION = Slider("Resolution", 512, 64, 2048, 8)
#: of a module that takes no such number; A1111 tells it all the same
_NONE = Slider("", 0.5, 0.0, 1.0, 0.01)
#: always that, whatever is sent
_HIDDEN_RESOLUTION = Slider("", 512, 0.0, 1.0, 0.01)


@dataclass(frozen=True)
class Module:
    """One preprocessor."""

    name: str
    #: as A1111's page calls it, where that is another name; either may be sent
    label: str = ""
    #: the kinds of control that it is for
    types: tuple[str, ...] = ()
    resolution: Slider = _RESOLUTION
    slider_1: Slider = _NONE
    slider_2: Slider = _NONE
    #: whether a control network must go with it
    needs_network: bool = True

    @property
    def title(self) -> str:
        return self.label or self.name

    @property
    def inpaints(self) -> bool:
        """Whether its picture has a mask, whose pixels are hidden from the network and repainted."""
        return "inpaint" in self.name

    @property
    def is_reference(self) -> bool:
        """Whether it uses its picture as a reference (A1111's attention injection)."""
        return self.name.startswith("reference_")

    @property
    def amends(self) -> bool:
        """Whether it also changes the UNet's answers by its picture, whatever its network says."""
        return "colorfix" in self.name or "inpaint_only" in self.name

    @property
    def is_image_prompt(self) -> bool:
        """Whether an IP-Adapter turns what it sees into a kind of prompt, so that it yields no control
        picture.
        """
        return "IP-Adapter" in self.types

    @property
    def recognises_faces(self) -> bool:
        """Whether it looks only at the faces in a picture."""
        return self.name in _OF_FACES

    @property
    def clip(self) -> ClipKind | None:
        """The CLIP that it uses; None for the one that its network was made for."""
        return _CLIPS.get(self.name)

    @property
    def sliders(self) -> list[Slider]:
        """The options that are shown."""
        shown = (self.resolution, self.slider_1, self.slider_2)
        return [each for each in shown if each not in (_NONE, _HIDDEN_RESOLUTION)]


_CLIPS: dict[str, ClipKind] = {
    "ip-adapter_clip_sd15": "clip_h",
    "ip-adapter_clip_sdxl_plus_vith": "clip_h",
    "ip-adapter_clip_sdxl": "clip_g",
}
_OF_FACES = frozenset(
    (
        "ip-adapter_face_id",
        "ip-adapter_face_id_plus",
        "ip-adapter_pulid",
        "instant_id_face_keypoints",
        "instant_id_face_embedding",
    )
)

_ALL = (
    Module("none", types=("InstructP2P",)),
    Module("ip-adapter-auto", types=("IP-Adapter",)),
    Module("tile_resample", types=("Tile",), slider_1=Slider("Down Sampling Rate", 1.0, 1.0, 8.0, 0.01)),
    Module("pidinet", label="softedge_pidinet", types=("SoftEdge",)),
    Module("oneformer_ade20k", label="seg_ofade20k", types=("Segmentation",)),
    Module("pidinet_scribble", label="scribble_pidinet", types=("Scribble", "SparseCtrl")),
    Module(
        "revision_clipvision",
        types=("Revision",),
        slider_1=Slider("Noise Augmentation", 0.0, 0.0, 1.0, 0.01),
        needs_network=False,
    ),
    Module(
        "reference_only",
        types=("Reference",),
        slider_1=Slider("Style Fidelity (only for Balanced mode)", 0.5, 0.0, 1.0, 0.01),
        needs_network=False,
    ),
    Module(
        "recolor_luminance", types=("Recolor",), slider_1=Slider("Gamma Correction", 1.0, 0.1, 2.0, 0.001)
    ),
    Module("openpose_full", types=("OpenPose",)),
    Module("normal_bae", types=("NormalMap",)),
    Module(
        "mlsd",
        types=("MLSD",),
        slider_1=Slider("MLSD Value Threshold", 0.1, 0.01, 2.0, 0.01),
        slider_2=Slider("MLSD Distance Threshold", 0.1, 0.01, 20.0, 0.01),
    ),
    Module("lineart_standard", label="lineart_standard (from white bg & black line)", types=("Lineart",)),
    Module("ip-adapter_clip_sd15", label="ip-adapter_clip_h", types=("IP-Adapter",)),
    Module("inpaint_only", types=("Inpaint",), resolution=_NONE),
    Module("depth", label="depth_midas", types=("Depth",)),
    Module(
        "canny",
        types=("Canny",),
        slider_1=Slider("Low Threshold", 100, 1, 255, 1),
        slider_2=Slider("High Threshold", 200, 1, 255, 1),
    ),
    Module(
        "invert",
        label="invert (from white bg & black line)",
        types=("Canny", "Lineart", "MLSD", "Scribble"),
        resolution=_NONE,
    ),
    Module(
        "tile_colorfix+sharp",
        types=("Tile",),
        slider_1=Slider("Variation", 8.0, 3.0, 32.0, 1.0),
        slider_2=Slider("Sharpness", 1.0, 0.0, 2.0, 0.01),
    ),
    Module("tile_colorfix", types=("Tile",), slider_1=Slider("Variation", 8.0, 3.0, 32.0, 1.0)),
    Module("threshold", slider_1=Slider("Binarization Threshold", 127, 0, 255, 0.01)),
    Module("clip_vision", label="t2ia_style_clipvision", types=("T2I-Adapter",)),
    Module("pidinet_sketch", label="t2ia_sketch_pidi", types=("T2I-Adapter",)),
    Module("color", label="t2ia_color_grid", types=("T2I-Adapter",)),
    Module("softedge_teed", types=("SoftEdge",), slider_1=Slider("Safe Steps", 2, 0, 10, 1)),
    Module("pidinet_safe", label="softedge_pidisafe", types=("SoftEdge",)),
    Module("hed_safe", label="softedge_hedsafe", types=("SoftEdge",)),
    Module("hed", label="softedge_hed", types=("SoftEdge",)),
    Module(
        "softedge_anyline",
        types=("SoftEdge",),
        resolution=Slider("Resolution", 1280, 64, 2048, 8),
        slider_1=Slider("Safe Steps", 2, 0, 10, 1),
    ),
    Module("shuffle", types=("Shuffle",), resolution=_HIDDEN_RESOLUTION),
    Module("segmentation", label="seg_ufade20k", types=("Segmentation",)),
    Module("oneformer_coco", label="seg_ofcoco", types=("Segmentation",)),
    Module("anime_face_segment", label="seg_anime_face", types=("Segmentation",)),
    Module(
        "scribble_xdog", types=("Scribble", "SparseCtrl"), slider_1=Slider("XDoG Threshold", 32, 1, 64, 0.01)
    ),
    Module("scribble_hed", types=("Scribble", "SparseCtrl")),
    Module(
        "revision_ignore_prompt",
        types=("Revision",),
        slider_1=Slider("Noise Augmentation", 0.0, 0.0, 1.0, 0.01),
        needs_network=False,
    ),
    Module(
        "reference_adain+attn",
        types=("Reference",),
        slider_1=Slider("Style Fidelity (only for Balanced mode)", 0.5, 0.0, 1.0, 0.01),
        needs_network=False,
    ),
    Module(
        "reference_adain",
        types=("Reference",),
        slider_1=Slider("Style Fidelity (only for Balanced mode)", 0.5, 0.0, 1.0, 0.01),
        needs_network=False,
    ),
    Module(
        "recolor_intensity", types=("Recolor",), slider_1=Slider("Gamma Correction", 1.0, 0.1, 2.0, 0.001)
    ),
    Module("openpose_hand", types=("OpenPose",)),
    Module("openpose_faceonly", types=("OpenPose",)),
    Module("openpose_face", types=("OpenPose",)),
    Module("openpose", types=("OpenPose",)),
    Module(
        "normal_map",
        label="normal_midas",
        types=("NormalMap",),
        slider_1=Slider("Normal Background Threshold", 0.4, 0.0, 1.0, 0.01),
    ),
    Module(
        "normal_dsine",
        types=("NormalMap",),
        slider_1=Slider("Fov", 60, 0, 360, 0.1),
        slider_2=Slider("Iterations", 5, 1, 20, 1),
    ),
    Module("mobile_sam", types=("Segmentation",)),
    Module(
        "mediapipe_face",
        slider_1=Slider("Max Faces", 1, 1, 10, 1),
        slider_2=Slider("Min Face Confidence", 0.5, 0.01, 1.0, 0.01),
    ),
    Module("lineart", label="lineart_realistic", types=("Lineart",)),
    Module("lineart_coarse", types=("Lineart",)),
    Module("lineart_anime_denoise", types=("Lineart",)),
    Module("lineart_anime", types=("Lineart",)),
    Module("ip-adapter_pulid", types=("IP-Adapter",), resolution=_NONE),
    Module("ip-adapter_face_id_plus", types=("IP-Adapter",)),
    Module("ip-adapter_face_id", types=("IP-Adapter",)),
    Module("ip-adapter_clip_sdxl_plus_vith", types=("IP-Adapter",)),
    Module("ip-adapter_clip_sdxl", label="ip-adapter_clip_g", types=("IP-Adapter",)),
    Module("instant_id_face_keypoints", types=("Instant-ID",)),
    Module("instant_id_face_embedding", types=("Instant-ID",)),
    Module("inpaint_only+lama", types=("Inpaint",), resolution=_NONE),
    Module("inpaint", label="inpaint_global_harmonious", types=("Inpaint",), resolution=_NONE),
    Module("facexlib", resolution=_NONE),
    Module("dw_openpose_full", types=("OpenPose",)),
    Module("depth_zoe", types=("Depth",)),
    Module(
        "depth_leres++",
        types=("Depth",),
        slider_1=Slider("Remove Near %", 0, 0, 100, 0.1),
        slider_2=Slider("Remove Background %", 0, 0, 100, 0.1),
    ),
    Module(
        "depth_leres",
        types=("Depth",),
        slider_1=Slider("Remove Near %", 0, 0, 100, 0.1),
        slider_2=Slider("Remove Background %", 0, 0, 100, 0.1),
    ),
    Module("depth_hand_refiner", types=("Depth",)),
    Module("depth_anything_v2", types=("Depth",)),
    Module("depth_anything", types=("Depth",)),
    Module("densepose_parula", label="densepose_parula (black bg & blue torso)", types=("OpenPose",)),
    Module("densepose", label="densepose (pruple bg & purple torso)", types=("OpenPose",)),
    Module("blur_gaussian", types=("Tile",), slider_1=Slider("Sigma", 9.0, 0.01, 64.0, 0.01)),
    Module("animal_openpose", types=("OpenPose",)),
)

#: by name, in A1111's order
MODULES: dict[str, Module] = {module.name: module for module in _ALL}
_BY_TITLE = {module.title: module for module in _ALL}


def find_module(name: str) -> Module | None:
    """The module with exactly that name or label, or None."""
    return _BY_TITLE.get(name) or MODULES.get(name)
