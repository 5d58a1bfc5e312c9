"""Poses: as A1111's extension finds, tells and draws them, with the same weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from img2img_shared.control import ControlUnit
from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.models.control.annotators import Annotators
from img2img_worker.models.control.pose_networks import BodyMaps, PartMaps
from img2img_worker.pictures.control.prepare_control import ControlPicture, control_map
from img2img_worker.pictures.control.source import Originals
from tests.unit.pose_files import PUBLISHED, Shapes, body_shapes, face_shapes, hand_shapes, write_poses

A1111 = Path(__file__).parent / "a1111"
#: the extension's pictures, by module and the seed of the weights that it had
DRAWN = np.load(A1111 / "control_poses.npz")
TOLD = json.loads((A1111 / "control_poses.json").read_text())
BY_OPENPOSE = sorted(name for name in DRAWN.files if name.startswith("openpose"))
BY_ONNX = ("dw_openpose_full dw", "animal_openpose dw")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {seed: tmp_path_factory.mktemp("models") for seed in ("38", "10", "dw")}
    for seed in ("38", "10"):
        write_poses(found[seed], int(seed))
    # only what a module shows has to be there
    (found["10"] / "annotators" / "openpose" / "facenet.safetensors").unlink()
    shutil.copytree(A1111 / "annotators", found["dw"] / "annotators")
    return found


def found(case: str, folders: dict[str, Path]) -> ControlPicture:
    module, seed = case.split()
    asked = ControlUnit(module=module, processor_res=64)
    own = Originals(own=Image.fromarray(DRAWN[f"picture {seed}"]))
    return control_map(asked, own, Params(), 0, Annotators(folders[seed]).annotate)


def numbers(told: Any) -> list[list[float]]:
    """Of all people, and of animals."""
    people = [points or [] for person in told["people"] for _, points in sorted(person.items())]
    return [*people, *told["animals"]]


@pytest.mark.parametrize("case", BY_OPENPOSE)
def test_people_are_drawn_as_the_extension_draws_them(case: str, folders: dict[str, Path]) -> None:
    control = found(case, folders)
    assert DRAWN[case].any()
    assert np.abs(np.array(control.map).astype(float) - DRAWN[case]).mean() < 0.05
    if case in TOLD:
        assert control.poses is not None
        told = control.poses.as_openpose()
        assert {name: told[name] for name in ("canvas_width", "canvas_height")} == {
            name: TOLD[case][name] for name in ("canvas_width", "canvas_height")
        }
        for ours, theirs in zip(numbers(told), numbers(TOLD[case]), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("case", BY_ONNX)
def test_people_and_animals_in_boxes_are_found_where_the_extension_finds_them(
    case: str, folders: dict[str, Path]
) -> None:
    control = found(case, folders)
    assert control.poses is not None
    pairs = list(zip(numbers(control.poses.as_openpose()), numbers(TOLD[case]), strict=True))
    distances = np.concatenate([np.abs(np.subtract(*pair)) for pair in pairs])
    # the extension's OpenCV cuts boxes out to the 32nd of a pixel: of equally high places, another is highest
    assert len(distances) > 200
    assert np.mean(distances < 0.6) > 0.95
    assert np.abs(np.array(control.map).astype(float) - DRAWN[case]).mean() < 5


def test_a_picture_in_which_nobody_is_found_is_black(folders: dict[str, Path]) -> None:
    black = Originals(own=Image.new("RGB", (64, 64)))
    for module in ("dw_openpose_full", "animal_openpose"):
        asked = ControlUnit(module=module, processor_res=64)
        control = control_map(asked, black, Params(), 0, Annotators(folders["dw"]).annotate)
        assert not np.array(control.map).any()
        assert control.poses is not None
        assert control.poses.as_openpose()["people"] == []


@pytest.mark.parametrize(
    ("network", "shapes"), [(BodyMaps, body_shapes), (PartMaps, hand_shapes), (PartMaps, face_shapes)]
)
def test_a_published_file_is_used_to_the_last_tensor(network: Any, shapes: Any) -> None:
    wanted: Shapes = shapes(PUBLISHED)
    with torch.device("meta"):
        made = network({name: torch.empty(shape) for name, shape in wanted.items()})
    assert {name: tuple(value.shape) for name, value in made.state_dict().items()} == wanted


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("openpose", r"body_pose_model\.safetensors"),
        ("openpose_hand", r"body_pose_model\.safetensors"),
        ("dw_openpose_full", r"yolox_l\.onnx"),
    ],
)
def test_a_pose_network_that_is_missing_is_named_with_its_file(
    module: str, file: str, tmp_path: Path
) -> None:
    own = Originals(own=Image.new("RGB", (64, 64)))
    with pytest.raises(Refused, match=f"annotators/{file}") as refused:
        control_map(ControlUnit(module=module), own, Params(), 0, Annotators(tmp_path).annotate)
    assert refused.value.value == module


def test_an_onnx_file_that_opencv_cannot_read_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "annotators"
    folder.mkdir()
    (folder / "yolox_l.onnx").write_bytes(b"no network")
    own = Originals(own=Image.new("RGB", (64, 64)))
    with pytest.raises(Refused, match=r"yolox_l\.onnx cannot be used"):
        control_map(ControlUnit(module="dw_openpose_full"), own, Params(), 0, Annotators(tmp_path).annotate)
