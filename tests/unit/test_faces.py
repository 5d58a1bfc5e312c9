"""Faces: cut out, restored and put back as facexlib does it for A1111."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from img2img_shared.errors import Refused
from img2img_shared.extras_report import extras_infotext, restorers_of
from img2img_shared.params import Params
from img2img_worker.farm.recipe import recipe
from img2img_worker.models.faces.parsenet import KINDS, ParseNet
from img2img_worker.models.faces.restorers import DETECTION, PARSING, FaceRestorers
from img2img_worker.models.faces.restoring import restore_faces
from img2img_worker.models.faces.retinaface import Faces, RetinaFace
from img2img_worker.models.upscalers import upscaler_files
from img2img_worker.models.upscalers.spandrel_import import spandrel
from img2img_worker.pictures.extras_picture import postprocess
from img2img_worker.pictures.upscale import no_networks
from tests.unit.test_recipe import ITEM, PICTURES, SERVED, finished, job

#: a picture, and what facexlib 0.3.0 makes of it with the finder, the restorer and the parts below
REFERENCE = Path(__file__).parent / "a1111/faces"
#: where the features of a face lie, about its middle
FEATURES = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)


def pixels(name: str) -> NDArray[np.uint8]:
    return np.array(Image.open(REFERENCE / f"{name}.png").convert("RGB"))


def two(image: NDArray[np.uint8]) -> Faces:
    """Two faces that lean to either side."""
    height, width = image.shape[:2]
    found = []
    for x, y, size, angle in ((0.3, 0.5, 0.9, 0.2), (0.75, 0.4, 0.6, -0.4)):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        found.append((FEATURES - 256) * size * 0.8 * height / 640 @ turn.T + [x * width, y * height])
    landmarks = np.array(found, np.float32)
    return Faces(scores=np.ones(2, np.float32), boxes=np.zeros((2, 4), np.float32), landmarks=landmarks)


def none(_: NDArray[np.uint8]) -> Faces:
    empty = np.zeros((0, 5, 2), np.float32)
    return Faces(scores=empty[:, 0, 0], boxes=np.zeros((0, 4), np.float32), landmarks=empty)


def negative(face: Tensor) -> Tensor:
    return -face * 0.9


def parts(_: Tensor) -> Tensor:
    """Skin within a circle, hair above."""
    scores = torch.zeros(1, KINDS, 512, 512)
    y, x = torch.meshgrid(torch.arange(512), torch.arange(512), indexing="ij")
    scores[0, 1] = ((x - 256) ** 2 + (y - 270) ** 2 < 200**2).float()
    scores[0, 17] = (y < 120).float() * 2
    return scores


def test_faces_are_put_back_where_they_were() -> None:
    found = restore_faces(pixels("source"), two, negative, parts)
    np.testing.assert_array_equal(found, pixels("pasted"))
    assert np.abs(pixels("source").astype(int) - pixels("pasted").astype(int)).mean() > 5


def test_a_picture_without_faces_stays_as_it_is() -> None:
    source = pixels("source")
    np.testing.assert_array_equal(restore_faces(source, none, negative, parts), source)


def test_what_is_found_lies_apart_and_is_sure() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = RetinaFace().eval()
    heads: Any = network.ClassHead, network.BboxHead, network.LandmarkHead
    with torch.no_grad():
        for level, head in enumerate(heads[0]):
            head.conv1x1.weight.zero_()
            # of the coarsest map, the smaller of two boxes at each cell
            head.conv1x1.bias.copy_(torch.tensor([4.0, -4.0 if level < 2 else 9.0, 4.0, -4.0]))
        for head in (*heads[1], *heads[2]):
            head.conv1x1.weight.zero_()
            head.conv1x1.bias.zero_()
    faces = network.find(np.zeros((300, 500, 3), np.uint8))
    assert (faces.scores > 0.97).all()
    assert [faces.boxes[0].round().tolist(), faces.boxes[-1].round().tolist()[2:]] == [
        [-112, -112, 144, 144],
        [624, 432],
    ]
    sizes = faces.boxes[:, 2:] - faces.boxes[:, :2]
    np.testing.assert_allclose(sizes, 256, atol=1e-3)
    for one, box in enumerate(faces.boxes):
        for other in faces.boxes[:one]:
            shared = (np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])).clip(0).prod()
            assert shared / (2 * 256**2 - shared) <= 0.4
    middles = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    np.testing.assert_allclose(faces.landmarks, np.repeat(middles[:, None], 5, axis=1), atol=1e-3)


def test_a_restorer_is_to_be_had_with_all_that_it_takes(tmp_path: Path) -> None:
    restorers = FaceRestorers(tmp_path, torch.device("cpu"))
    assert restorers.reasons == {}
    with pytest.raises(Refused, match="it has no file in the folder GFPGAN"):
        restorers.restore("GFPGAN", pixels("source"), 0.5)
    folder = tmp_path / "GFPGAN"
    folder.mkdir()
    names = ("toRGB.0.weight", "stylegan_decoder.style_mlp.1.weight")
    torch.save({name: torch.zeros(1) for name in names}, folder / "GFPGANv1.4.pth")
    assert restorers.reasons == {"GFPGAN": f"{DETECTION} is missing in the folder GFPGAN"}
    for name in (DETECTION, PARSING):
        torch.save({"x": torch.zeros(1)}, folder / name)
    assert restorers.reasons == {"GFPGAN": None}
    with pytest.raises(Refused, match="it cannot be used"):  # what only loading tells
        restorers.restore("GFPGAN", pixels("source"), 0.5)
    torch.save({"x": torch.zeros(1)}, tmp_path / "codeformer.pth")
    (tmp_path / "Codeformer").mkdir()
    (tmp_path / "codeformer.pth").rename(tmp_path / "Codeformer" / "codeformer-v0.1.0.pth")
    assert "spandrel_extra_arches" in str(restorers.reasons["CodeFormer"])


def saved_networks(models: Path, picture: NDArray[np.uint8]) -> dict[str, Any]:
    """CodeFormer and GFPGAN with seeded weights, and what finds one face in a picture: A1111's four files."""
    from spandrel.architectures.GFPGAN.__arch.gfpganv1_clean_arch import GFPGANv1Clean
    from spandrel_extra_arches.architectures.CodeFormer import CodeFormer

    torch.manual_seed(3)
    finder: Any = RetinaFace().eval()
    parser: Any = ParseNet().eval()
    with torch.no_grad():
        for level, head in enumerate(finder.ClassHead):
            head.conv1x1.weight.mul_(float(level == 2))
            head.conv1x1.bias.copy_(torch.tensor([0.0, 0.0 if level == 2 else -9.0] * 2))
        for head in finder.LandmarkHead:
            head.conv1x1.weight.zero_()
            head.conv1x1.bias.copy_(torch.tensor((FEATURES - 256) / 51.2).float().flatten().repeat(2))
        for head in finder.BboxHead:
            head.conv1x1.weight.zero_()
            head.conv1x1.bias.zero_()
        values = torch.from_numpy(picture[..., ::-1].astype(np.float32).transpose(2, 0, 1).copy())[None]
        likely, *_ = finder(values - torch.tensor([104.0, 117.0, 123.0])[:, None, None])
        logits = likely.logit()
        # far apart, so that the likeliest alone is beyond the limit, which is 3.48
        scale = 6 / logits[logits > -8].std()
        finder.ClassHead[2].conv1x1.weight.mul_(scale)
        finder.ClassHead[2].conv1x1.bias += torch.tensor([0.0, 3.5 - scale * logits.max()] * 2)
        parser.out_mask_conv.conv2d.bias[1] = 9.0
    codeformer = CodeFormer(dim_embd=64, n_layers=1, codebook_size=64).eval()
    style = {"num_style_feat": 512, "num_mlp": 8, "input_is_latent": True, "different_w": True}
    gfpgan = GFPGANv1Clean(out_size=512, channel_multiplier=2, narrow=1, sft_half=True, **style).eval()
    for folder in ("GFPGAN", "Codeformer"):
        (models / folder).mkdir()
    for name, network in ((DETECTION, finder), (PARSING, parser), ("GFPGANv1.4.pth", gfpgan)):
        torch.save(network.state_dict(), models / "GFPGAN" / name)
    torch.save({"params_ema": codeformer.state_dict()}, models / "Codeformer" / "codeformer-v0.1.0.pth")
    return {"GFPGAN": gfpgan, "CodeFormer": codeformer, "finder": finder, "parser": parser}


@pytest.mark.timeout(900)
def test_a_restorers_file_is_read_again_only_after_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def count(path: Path, device: str) -> dict[str, Tensor]:
        read.append(path)
        return {}

    monkeypatch.setattr(upscaler_files, "read_state", count)
    file = tmp_path / "GFPGAN" / "GFPGANv1.4.pth"
    file.parent.mkdir()
    for name in (DETECTION, PARSING):
        (file.parent / name).write_bytes(b"")
    restorers = FaceRestorers(tmp_path, torch.device("cpu"))
    for content in (b"one", b"another"):
        file.write_bytes(content)
        for _ in range(3):
            assert "no network" in str(restorers.reasons["GFPGAN"])
    assert read == [file, file]


def test_what_restores_faces_is_what_spandrel_has(tmp_path: Path) -> None:
    """Minutes on a busy machine: only where CodeFormer's package is, whose licences are not for every use."""
    spandrel()  # which does without torchvision
    pytest.importorskip("spandrel_extra_arches")
    picture = np.array(Image.open(REFERENCE / "source.png").convert("RGB").resize((640, 640)))
    networks = saved_networks(tmp_path, picture)
    restorers = FaceRestorers(tmp_path, torch.device("cpu"))
    assert restorers.reasons == {"CodeFormer": None, "GFPGAN": None}
    finder, parser = networks["finder"], networks["parser"]
    assert len(finder.find(picture[..., ::-1].copy()).scores) == 1
    options: dict[str, dict[str, Any]] = {
        "CodeFormer": {"weight": 0.25, "adain": True},
        "GFPGAN": {"return_rgb": False},
    }
    for name, own in options.items():
        network = networks[name]
        with torch.inference_mode():
            expected = restore_faces(picture, finder.find, lambda face: network(face, **own)[0], parser)  # noqa: B023
        np.testing.assert_array_equal(restorers.restore(name, picture, 0.25), expected)
        assert np.abs(expected.astype(int) - picture.astype(int)).mean() > 1


def test_parts_of_a_face_are_told_apart_at_its_own_size() -> None:
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        scores = ParseNet().eval()(torch.zeros(1, 3, 64, 64))
    assert scores.shape == (1, KINDS, 64, 64)


def test_a_render_has_its_faces_restored_before_it_is_told() -> None:
    wanted = job(restore_faces=True, face_restoration_model="GFPGAN")
    steps = recipe(wanted, ITEM, 0, {"image": PICTURES["image"]}, SERVED)
    next(steps)
    (data,) = finished(steps, np.full((64, 64, 3), 55, np.uint8)).values()
    assert b"Seed: 5, Face restoration: GFPGAN, Size: 64x64" in data


@pytest.mark.parametrize("opacity", [1, 0.5])
def test_extras_restore_faces_last_and_lay_them_over(opacity: float) -> None:
    calls: list[tuple[str, tuple[int, ...], float]] = []

    def restore(name: str, image: NDArray[np.uint8], weight: float) -> NDArray[np.uint8]:
        calls.append((name, image.shape, weight))
        return np.full_like(image, 200)

    own = {"codeformer_visibility": opacity, "codeformer_weight": 0.25, "upscaler_1": "Nearest"}
    params = Params(extras=True, **own)
    picture = postprocess(Image.new("RGB", (16, 8), (100, 100, 100)), params, no_networks, restore)
    assert calls == [("CodeFormer", (16, 32, 3), 0.25)]
    level = 200 if opacity == 1 else 150
    assert picture.getpixel((3, 3)) == (level, level, level)
    assert restorers_of(params) == ["CodeFormer"]
    assert extras_infotext(params).endswith(
        f"Postprocess upscaler: Nearest, CodeFormer visibility: {params.codeformer_visibility}, "
        "CodeFormer weight: 0.25"
    )
