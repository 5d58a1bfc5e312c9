"""Upscalers' files: found, refused by name, and run as A1111 runs them."""

from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_worker.models.upscalers.upscaler_files import load
from img2img_worker.models.upscalers.upscalers import Upscalers
from img2img_worker.pictures.upscale import upscale
from tests import upscalers as tiny

CPU = torch.device("cpu")
#: pictures by A1111 1.10.1 with these networks, in tiles of 16 pixels that overlap by 4
REFERENCE = Path(__file__).parent / "a1111/upscaled"
TILES = Params(esrgan_tile=16, esrgan_tile_overlap=4, swin_tile=16, swin_tile_overlap=4)
WHOLE = Params(esrgan_tile=0, swin_tile=0, esrgan_tile_overlap=0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.save(folder / "ESRGAN", "tiny_rrdb.pth", tiny.esrgan())
    tiny.save(folder / "esrgan", "tiny_2x.pt", tiny.esrgan(scale=2, seed=7), wrapped_in=None)
    tiny.save(folder / "RealESRGAN", "RealESRGAN_x4plus.pth", tiny.esrgan(seed=5))
    tiny.save(folder / "RealESRGAN" / "more", "realesr-general-x4v3.pth", tiny.compact(), wrapped_in="params")
    tiny.save(folder / "SwinIR", "tiny_swin.pth", tiny.swinir())
    return folder


@pytest.fixture(scope="module")
def upscalers(models: Path) -> Upscalers:
    return Upscalers(models, CPU)


def picture(name: str) -> Image.Image:
    return Image.open(REFERENCE / f"{name}.png").convert("RGB")


def test_they_are_called_as_a1111_calls_them(upscalers: Upscalers) -> None:
    assert list(upscalers.files) == [
        "R-ESRGAN 4x+",
        "R-ESRGAN General 4xV3",
        "realesr-general-x4v3",
        "RealESRGAN_x4plus",
        "tiny_2x",
        "tiny_rrdb",
        "tiny_swin",
    ]
    assert {file.reason for file in upscalers.files.values()} == {None}


def test_without_a_folder_there_are_none(tmp_path: Path) -> None:
    for folder in (None, tmp_path, tmp_path / "nowhere"):
        assert not Upscalers(folder, CPU).files
    with pytest.raises(Refused, match=r"'4x-cat': unknown upscaler; use None, Lanczos, Nearest$"):
        Upscalers(None, CPU).enlarge("4x-cat", picture("s"), Params())


def test_what_cannot_be_used_is_listed_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "ESRGAN"
    tiny.save(folder, "strange.pth", {"a.weight": torch.zeros(1)})
    (folder / "broken.pth").write_bytes(b"hello")
    (folder / "broken.safetensors").write_bytes(b"hello")
    torch.save({"params": {"conv_first.weight": print}}, folder / "code.pth")
    torch.save([torch.zeros(1)], folder / "list.pth")
    torch.save({1: torch.zeros(1), "x": {2: 3}}, folder / "numbered.pth")
    tiny.save(folder, "nan.pth", {key: value * torch.nan for key, value in tiny.esrgan().items()})
    cut = tiny.esrgan()
    cut["model.0.weight"] = cut["model.0.weight"][:, :, :1]
    tiny.save(folder, "cut.pth", cut)
    upscalers = Upscalers(tmp_path, CPU)
    reasons = {name: str(file.reason) for name, file in upscalers.files.items()}
    assert "no network that spandrel knows" in reasons["strange"]
    assert "not readable" in reasons["broken"]
    assert "more than tensors" in reasons["code"]
    assert "no tensors by name" in reasons["list"]
    assert "more than tensors by name" in reasons["numbered"]
    for name in reasons:  # what only loading tells, a render is told
        with pytest.raises(Refused, match=f"upscaler is '?{name}'?: it cannot be used"):
            upscalers.enlarge(name, picture("s"), Params())


@pytest.mark.parametrize("name", ["tiny_rrdb", "tiny_swin"])
def test_a_whole_picture_is_what_spandrel_makes_of_it(upscalers: Upscalers, name: str) -> None:
    image = picture("p")
    network = load(upscalers.files[name].path, CPU)
    values = torch.from_numpy(np.array(image)[..., ::-1].transpose(2, 0, 1).copy()).float()[None] / 255
    expected = network(values)[0].numpy()[::-1].transpose(1, 2, 0) * 255
    found = upscalers.enlarge(name, image, WHOLE)
    np.testing.assert_array_equal(np.asarray(found), expected.round().astype(np.uint8))


@pytest.mark.parametrize(
    ("name", "factor", "source", "reference"),
    [
        ("tiny_rrdb", 3, "p", "rrdb"),
        ("tiny_swin", 2, "p", "swin"),
        ("tiny_2x", 5, "p", "twice"),  # again and again, until it is large enough
        ("tiny_rrdb", 2, "s", "small"),  # less than a tile
    ],
)
def test_in_tiles_pictures_are_a1111s(
    upscalers: Upscalers, name: str, factor: float, source: str, reference: str
) -> None:
    found = upscale(picture(source), factor, name, lambda name, image: upscalers.enlarge(name, image, TILES))
    expected = picture(reference)
    assert found.size == expected.size
    difference = np.abs(np.asarray(found, np.float32) - np.asarray(expected, np.float32))
    assert difference.mean() < 0.01
    assert difference.max() <= 1


def test_a_network_is_never_given_more_than_a_tile(upscalers: Upscalers, monkeypatch: Any) -> None:
    sizes = set()
    run = upscalers._run

    def spy(network: Any, values: Any) -> Any:
        sizes.add(values.shape)
        return run(network, values)

    monkeypatch.setattr(upscalers, "_run", spy)
    for name in ("tiny_rrdb", "tiny_swin"):
        upscalers.enlarge(name, picture("p").resize((61, 43)), TILES)
    assert sizes == {(3, 16, 16)}


def test_who_is_not_wanted_any_more_stops_at_the_next_tile(upscalers: Upscalers) -> None:
    left = [True, True]
    with pytest.raises(CancelledError):
        upscalers.enlarge("tiny_rrdb", picture("p"), TILES, lambda: bool(left) and left.pop())
    assert not left


def test_what_becomes_too_large_is_refused(upscalers: Upscalers) -> None:
    with pytest.raises(Refused, match=r"is 80000 × 8000 pixels: give a picture of at most"):
        upscalers.enlarge("tiny_rrdb", Image.new("RGB", (20_000, 2_000)), TILES)


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    upscalers = Upscalers(tmp_path, CPU)
    tiny.save(tmp_path / "ESRGAN", "a.pth", tiny.esrgan(scale=2))
    before = upscalers.enlarge("a", picture("s"), WHOLE)
    tiny.save(tmp_path / "ESRGAN", "a.pth", tiny.esrgan())
    after = upscalers.enlarge("a", picture("s"), WHOLE)
    assert (before.width, after.width) == (2 * picture("s").width, 4 * picture("s").width)


def test_tiles_must_be_larger_than_what_they_share() -> None:
    with pytest.raises(Refused, match=r"swin_tile_overlap is 16: give less than swin_tile, which is 16"):
        Params(swin_tile=16, swin_tile_overlap=16)
