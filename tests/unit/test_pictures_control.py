"""Control pictures: what preprocessors make, and how it is fitted, against maps of A1111's own extension."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from img2img_shared.control import ControlUnit
from img2img_shared.control_modules import find_module
from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.pictures.control.fitting import fit_picture
from img2img_worker.pictures.control.prepare_control import control_map, control_pictures, finish_result
from img2img_worker.pictures.control.preprocessors import preprocess
from img2img_worker.pictures.control.source import Originals
from img2img_worker.pictures.control.thinning import thin

FOLDER = Path(__file__).parent / "a1111"
CASES = json.loads((FOLDER / "control_maps.json").read_text())


@pytest.fixture(scope="module")
def arrays() -> Any:
    return np.load(FOLDER / "control_maps.npz")


def unit(**fields: Any) -> ControlUnit:
    return ControlUnit(**{"model": "some network", **fields})


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_map_is_the_one_that_the_extension_shows(case: Any, arrays: Any) -> None:
    size = case["width"], case["height"]
    params = Params(width=size[0], height=size[1], txt2img=case["txt2img"])
    mask = case["mask"] and Image.fromarray(arrays[f"in {case['mask']}"])
    originals = Originals(own=Image.fromarray(arrays[f"in {case['image']}"]), own_mask=mask)
    (found,) = control_pictures(unit(**case["unit"]), originals, params, [size], 2 * case["seed"])
    wanted = arrays[f"map {case['name']}"].astype(float)
    # shuffle's noise is enlarged by another release of OpenCV
    tolerance = 0.05 if case["unit"]["module"] == "shuffle" else 0.0
    assert np.abs(np.array(found.map).astype(float) - wanted).mean() <= tolerance


def test_a_unit_without_a_picture_looks_at_the_init_image_as_that_is_resized() -> None:
    image = Image.radial_gradient("L").resize((96, 64)).convert("RGB")
    params = Params(width=64, height=64, resize_mode=0)
    (found,) = control_pictures(unit(), Originals(image=image), params, [(64, 64)], 0)
    (wanted,) = control_pictures(unit(resize_mode="Just Resize"), Originals(own=image), params, [(64, 64)], 0)
    np.testing.assert_array_equal(found.pixels, wanted.pixels)


def test_with_only_masked_the_control_picture_is_cropped_as_the_picture_is_unless_told_not_to() -> None:
    own = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 32))
    params = Params(width=64, height=64, mask_blur_x=0, mask_blur_y=0, inpaint_full_res=True)
    originals = Originals(own=own, image=own, mask=mask)
    (cropped,) = control_pictures(unit(), originals, params, [(64, 64)], 0)
    enlarged = np.array(own.crop((0, 0, 32, 32)).resize((64, 64), Image.Resampling.LANCZOS))
    assert np.abs(cropped.pixels.astype(int) - enlarged).mean() < 2
    (whole,) = control_pictures(unit(inpaint_crop_input_image=False), originals, params, [(64, 64)], 0)
    np.testing.assert_array_equal(whole.pixels, own)


def test_a_mask_of_another_size_than_its_picture_is_refused() -> None:
    originals = Originals(own=Image.new("RGB", (64, 64)), own_mask=Image.new("L", (32, 64)))
    with pytest.raises(Refused, match="32 × 64 pixels"):
        control_pictures(unit(), originals, Params(width=64, height=64), [(64, 64)], 0)


def test_what_clip_is_to_see_is_squeezed_to_its_size_mask_and_all() -> None:
    own = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
    mask = Image.new("L", (96, 64))
    mask.paste(255, (0, 0, 48, 64))
    seen = unit(module="ip-adapter_clip_h", pixel_perfect=True)
    sizes = [(64, 64), (128, 128)]
    bare, large = control_pictures(seen, Originals(own=own), Params(), sizes, 0)
    assert bare is large
    (masked, _) = control_pictures(seen, Originals(own=own, own_mask=mask), Params(), sizes, 0)
    assert bare.pixels.shape == (224, 224, 4)
    assert not bare.pixels[:, :, 3].any()
    np.testing.assert_array_equal(masked.pixels[:, :, :3], bare.pixels[:, :, :3])
    shown = np.array(masked.map)  # the picture itself, as A1111's extension shows it
    np.testing.assert_array_equal(shown[:, :, :3], np.array(own))
    assert (shown[:, :48, 3] == 128).all()
    assert (shown[:, 48:, 3] == 255).all()
    assert masked.pixels[:, :100, 3].all()
    assert not masked.pixels[:, 124:, 3].any()
    whole = Params(inpaint_full_res=False)
    (init,) = control_pictures(seen, Originals(image=own, mask=mask), whole, [(64, 64)], 0)
    np.testing.assert_array_equal(init.pixels, bare.pixels[:, :, :3])


@pytest.mark.parametrize(
    "module",
    ["ip-adapter_face_id", "ip-adapter_face_id_plus", "ip-adapter_pulid", "instant_id_face_embedding"],
)
def test_what_looks_for_faces_is_refused_with_what_it_takes(module: str) -> None:
    own = Image.new("RGB", (64, 64))
    with pytest.raises(Refused, match="insightface"):
        control_pictures(unit(module=module), Originals(own=own), Params(), [(64, 64)], 0)


def test_what_makes_no_picture_is_refused_where_one_is_all_that_is_wanted() -> None:
    with pytest.raises(Refused, match="no picture"):
        control_map(unit(module="ip-adapter-auto"), Originals(own=Image.new("RGB", (64, 64))), Params(), 0)


def test_what_an_image_refers_to_is_the_whole_picture_as_it_is() -> None:
    own = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 150, 3), np.uint8))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 16, 16))
    params = Params(width=64, height=64, inpaint_full_res=True)
    for module in ("reference_only", "reference_adain", "reference_adain+attn"):
        originals = Originals(own=own, mask=mask)
        # whatever is repainted, and at which resolution
        shown = control_map(unit(module=module, processor_res=96), originals, params, 0).map
        np.testing.assert_array_equal(np.array(shown), np.array(own))


@pytest.mark.parametrize("module", ["openpose", "depth_anything", "revision_clipvision", "inpaint_only+lama"])
def test_a_module_that_is_not_here_is_refused_by_name(module: str) -> None:
    originals = Originals(own=Image.new("RGB", (64, 64)))
    with pytest.raises(Refused, match="module") as refused:
        control_pictures(unit(module=module), originals, Params(width=64, height=64), [(64, 64)], 0)
    assert refused.value.value == module


def test_an_aspect_that_would_need_gigabytes_is_refused() -> None:
    narrow = Image.new("RGB", (100_000, 8))
    for fields in ({"module": "canny", "processor_res": 2048}, {"resize_mode": "Crop and Resize"}):
        with pytest.raises(Refused, match="is 100000 × 8 pixels"):
            control_pictures(
                unit(**fields), Originals(own=narrow), Params(width=2048, height=2048), [(2048, 2048)], 0
            )


@pytest.mark.parametrize(
    ("module", "size", "thresholds"),
    [
        ("tile_resample", (5, 5), (8, 0)),
        ("t2ia_color_grid", (9, 9), (0, 0)),
        ("blur_gaussian", (9, 9), (0, 0)),
    ],
)
def test_a_picture_that_leaves_a_module_no_pixels_is_refused_with_its_size(
    module: str, size: tuple[int, int], thresholds: tuple[float, float]
) -> None:
    found = find_module(module)
    assert found is not None
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    with pytest.raises(Refused, match=f"{module} of {size[0]} × {size[1]} pixels"):
        preprocess(found, pixels, 32, thresholds, 0)


def test_a_shortage_of_memory_is_not_blamed_on_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    shortage: Any = cv2.error("(-4:Insufficient memory) Failed to allocate 2700000000000 bytes")
    shortage.code = cv2.Error.StsNoMem

    def enlarge(*_: object, **__: object) -> None:
        raise shortage

    monkeypatch.setattr(cv2, "resize", enlarge)
    module = find_module("canny")
    assert module is not None
    with pytest.raises(cv2.error, match="Insufficient memory"):
        preprocess(module, np.zeros((64, 64, 3), np.uint8), 512, (100, 200), 0)


def test_what_inpaint_only_does_not_repaint_is_the_original_to_the_pixel() -> None:
    own = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 16, 64))
    inpaints = unit(module="inpaint_only")
    originals = Originals(own=own, own_mask=mask)
    (control,) = control_pictures(inpaints, originals, Params(width=64, height=64), [(64, 64)], 0)
    result = finish_result(np.full((64, 64, 3), 200, np.uint8), inpaints, control)
    np.testing.assert_array_equal(result[:, 24:], np.array(own)[:, 24:])
    assert (result[:, :12] == 200).all()


def test_lines_are_thinned_to_a_pixel_and_areas_are_left_to_their_colours() -> None:
    lines = np.zeros((32, 32), np.uint8)
    lines[14:18, 2:30] = 255
    assert (thin(lines, prune=False) > 0).sum(axis=0)[8:24].tolist() == [1] * 16
    areas = np.zeros((20, 20, 3), np.uint8)
    areas[:10], areas[10:, 10:] = (200, 30, 30), (30, 200, 30)
    scaled = fit_picture(areas, "Just Resize", 33, 47)
    assert {tuple(colour) for colour in scaled.reshape(-1, 3).tolist()} == {
        (0, 0, 0),
        (200, 30, 30),
        (30, 200, 30),
    }
