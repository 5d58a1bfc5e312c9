"""Depth by networks of transformers, from folders on this machine."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessor,
)

from img2img_shared.control import ControlUnit
from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.models.control.annotators import Annotators
from img2img_worker.pictures.control.prepare import control_map
from img2img_worker.pictures.control.source import Originals


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(3)
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        out_indices=[1, 2, 3, 4],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    place = folder / "annotators" / "depth_anything_v2"
    DepthAnythingForDepthEstimation(config).save_pretrained(place)
    processor = DPTImageProcessor(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14
    )
    processor.save_pretrained(place)
    return folder


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(2).integers(0, 256, (64, 96, 3), np.uint8))


def unit(module: str) -> ControlUnit:
    return ControlUnit(module=module, processor_res=64)


def test_a_module_answers_as_its_network_scaled_to_black_and_white(models: Path) -> None:
    annotators = Annotators(models)
    found = control_map(unit("depth_anything_v2"), Originals(own=picture()), Params(), 0, annotators.depth)
    place = models / "annotators" / "depth_anything_v2"
    network = DepthAnythingForDepthEstimation.from_pretrained(place)
    given = DPTImageProcessor.from_pretrained(place)(
        # filled up to multiples of 64, as the extension does
        images=np.pad(np.array(picture()), ((0, 0), (0, 32), (0, 0)), mode="edge"),
        return_tensors="pt",
    )
    with torch.inference_mode():
        near = network(**given).predicted_depth
    near = torch.nn.functional.interpolate(near[None], size=(64, 128), mode="bilinear")[0, 0]
    wanted = (near - near.min()) / (near.max() - near.min()) * 255
    assert found.size == (96, 64)
    difference = np.array(found)[:, :, 0].astype(float) - wanted.numpy()[:, :96]
    assert np.abs(difference).max() <= 1.01
    assert np.ptp(np.array(found)) > 100


def test_a_network_that_is_missing_is_named_with_the_file_that_is_wanted(models: Path) -> None:
    with pytest.raises(Refused, match=r"annotators/depth_anything/config\.json"):
        control_map(unit("depth_anything"), Originals(own=picture()), Params(), 0, Annotators(models).depth)
    with pytest.raises(Refused, match="not here"):
        control_map(unit("depth"), Originals(own=picture()), Params(), 0)
