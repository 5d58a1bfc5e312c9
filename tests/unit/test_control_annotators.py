"""Preprocessors with networks: depth by transformers', edges and lines as A1111's extension draws them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessor,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
)

from img2img_shared.control import ControlUnit
from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.models.control.annotators import Annotators
from img2img_worker.models.control.drawing_networks import SoftEdges
from img2img_worker.models.control.scene_parsing import PALETTE
from img2img_worker.pictures.control.prepare_control import control_map
from img2img_worker.pictures.control.source import Originals
from tests.unit.drawing_files import write, write_all


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
    own = Originals(own=picture())
    found = control_map(unit("depth_anything_v2"), own, Params(), 0, annotators.annotate).map
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


@pytest.mark.parametrize("labels", [150, 19])
def test_what_is_where_is_told_in_the_colours_of_ade20k(labels: int, tmp_path: Path) -> None:
    torch.manual_seed(5)
    config = SegformerConfig(
        num_labels=labels,
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=8,
    )
    place = tmp_path / "annotators" / "segmentation"
    SegformerForSemanticSegmentation(config).save_pretrained(place)
    processor = SegformerImageProcessor(size={"height": 64, "width": 64})
    processor.save_pretrained(place)
    own = Originals(own=picture().crop((0, 0, 64, 64)))
    if labels != len(PALETTE):
        with pytest.raises(Refused, match="has 19 classes; use one for the 150 of ADE20K"):
            control_map(unit("segmentation"), own, Params(), 0, Annotators(tmp_path).annotate)
        return
    found = np.array(control_map(unit("segmentation"), own, Params(), 0, Annotators(tmp_path).annotate).map)
    network = SegformerForSemanticSegmentation.from_pretrained(place)
    with torch.inference_mode():
        logits = network(**processor(images=own.own, return_tensors="pt")).logits
    classes = torch.nn.functional.interpolate(logits, size=(64, 64), mode="bilinear").argmax(dim=1)[0]
    np.testing.assert_array_equal(found, PALETTE[classes.numpy()])
    assert len(set(classes.flatten().tolist())) > 3


def test_the_colours_are_those_that_control_networks_know() -> None:
    # walls, buildings, sky, and the last, flags
    assert PALETTE[[0, 1, 2, 149]].tolist() == [[120] * 3, [180, 120, 120], [6, 230, 230], [92, 0, 255]]


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawing")
    write_all(folder)
    return folder


DRAWINGS = Path(__file__).parent / "a1111" / "control_drawings.npz"


@pytest.mark.parametrize("case", sorted(set(np.load(DRAWINGS).files) - {"picture"}))
def test_edges_and_lines_are_those_that_the_extension_draws(case: str, drawing: Path) -> None:
    arrays = np.load(DRAWINGS)
    module, resolution = case.split()
    asked = ControlUnit(module=module, processor_res=int(resolution))
    own = Originals(own=Image.fromarray(arrays["picture"]))
    annotators = Annotators(drawing, allow_pickles=True)
    found = np.array(control_map(asked, own, Params(), 0, annotators.annotate).map).astype(float)
    wanted = arrays[case]
    assert np.ptp(wanted) > 100
    assert np.abs(found - wanted.reshape(*found.shape[:2], -1)).mean() < 0.05


def test_a_drawing_network_that_is_not_whole_is_refused_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "annotators" / "ControlNetHED.safetensors"
    write(SoftEdges([(8, 1), (8, 1)]), 1, path)
    weights = load_file(path)
    del weights["block2.projection.bias"]
    save_file(weights, path)
    with pytest.raises(Refused, match=r"ControlNetHED\.safetensors.* lacks block2\.projection\.bias"):
        control_map(unit("hed"), Originals(own=picture()), Params(), 0, Annotators(tmp_path).annotate)


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("hed", "ControlNetHED"),
        ("hed_safe", "ControlNetHED"),
        ("scribble_hed", "ControlNetHED"),
        ("lineart", "sk_model"),
        ("lineart_coarse", "sk_model2"),
        ("pidinet_sketch", "table5_pidinet"),
        ("pidinet_scribble", "table5_pidinet"),
        ("lineart_anime", "netG"),
        ("mlsd", "mlsd_large_512_fp32"),
        ("normal_bae", "scannet"),
    ],
)
def test_a_drawing_network_that_is_missing_is_named_with_its_file(
    module: str, file: str, models: Path
) -> None:
    with pytest.raises(Refused, match=rf"annotators/{file}\.safetensors"):
        control_map(unit(module), Originals(own=picture()), Params(), 0, Annotators(models).annotate)


def test_a_network_that_is_missing_is_named_with_the_file_that_is_wanted(models: Path) -> None:
    with pytest.raises(Refused, match=r"annotators/depth_anything/config\.json"):
        control_map(
            unit("depth_anything"), Originals(own=picture()), Params(), 0, Annotators(models).annotate
        )
    with pytest.raises(Refused, match="is not available here"):
        control_map(unit("depth"), Originals(own=picture()), Params(), 0)
