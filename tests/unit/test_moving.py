"""Files of several pictures are told before they are sent."""

from pathlib import Path

import pytest
from PIL import Image

from img2img_producer.inputs import Picture
from img2img_producer.moving import note_on_moving


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "avif"])
def test_a_file_of_several_pictures_is_named(tmp_path: Path, kind: str) -> None:
    first, *more = (Image.effect_noise((400, 300), 90).convert("RGB") for _ in range(3))
    first.save(tmp_path / f"still.{kind}")
    first.save(tmp_path / f"moving.{kind}", save_all=True, append_images=more)
    files = [tmp_path / f"{name}.{kind}" for name in ("still", "moving", "absent")]
    others = (Picture(image=b"GIF89a"), Picture(prompt="a boat"))
    (told,) = note_on_moving([*(Picture(image=each) for each in files), *others])
    assert told.startswith(f"only the first picture of {files[1]} will be rendered")


def test_of_many_files_the_first_are_named(tmp_path: Path) -> None:
    first, more = Image.new("L", (8, 8)), Image.new("L", (8, 8), 255)
    for number in range(7):
        first.save(tmp_path / f"{number}.gif", save_all=True, append_images=[more])
    (told,) = note_on_moving(Picture(image=each) for each in sorted(tmp_path.iterdir()))
    assert "4.gif and 2 more will" in told


def test_of_single_pictures_nothing_is_said(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    assert list(note_on_moving(Picture(image=str(each)) for each in tmp_path.iterdir())) == []
