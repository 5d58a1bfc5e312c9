"""What users may write for inputs, and what becomes of it."""

import os
from pathlib import Path

import pytest

from img2img_producer.inputs import Picture, as_picture, find_paired, find_pictures, read_source
from img2img_shared.errors import Refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """img1, img2 and img10 in different formats, with things beside them that are no pictures."""
    for name in ("img10.png", "img2.JPG", "img1.webp", "notes.txt", ".hidden.png", "sub/img3.png"):
        path = tmp_path / "pics" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "pics"


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_means_its_pictures_in_natural_order(folder: Path) -> None:
    assert names(find_pictures([folder])) == ["img1.webp", "img2.JPG", "img10.png"]


def test_a_glob_means_the_pictures_that_match(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(find_pictures([str(folder / "*1*")])) == ["img1.webp", "img10.png"]
    monkeypatch.chdir(folder.parent)
    assert names(find_pictures(["pics/**/*.png"])) == ["img10.png", "img3.png"]
    assert names(find_pictures(["./pi?s/img[12].*"])) == ["img1.webp", "img2.JPG"]


def test_a_file_that_is_named_is_taken_whatever_it_is_called(folder: Path) -> None:
    """Whether it is a picture, its worker sees; the other images of the job are rendered."""
    assert names(find_pictures([folder / "notes.txt", folder / "img1.webp"])) == ["notes.txt", "img1.webp"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").write_bytes(b"x")
    assert names(find_pictures([tmp_path / "a[1].png"])) == ["a[1].png"]


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("missing.png", "no such file or folder"),
        ("*.bmp", "it matches no pictures"),
        ("empty", "it holds no pictures"),
    ],
)
def test_what_means_no_picture_is_refused_by_name(folder: Path, asked: str, allowed: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(Refused, match=allowed) as caught:
        find_pictures([str(folder / asked)])
    assert str(folder / asked) in str(caught.value)


def test_no_inputs_at_all_are_refused() -> None:
    with pytest.raises(Refused, match="at least one picture"):
        find_pictures([])


def test_masks_are_found_by_stem_whatever_their_format(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for name in ("img1.png", "img2.bmp", "img2.txt", "img10.PNG"):
        (tmp_path / "masks" / name).write_bytes(b"m")
    masks = find_paired(find_pictures([folder]), tmp_path / "masks", "mask_dir", "mask")
    assert names(masks) == ["img1.png", "img2.bmp", "img10.PNG"]


def test_a_missing_or_doubled_mask_is_refused_with_its_picture(folder: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    with pytest.raises(Refused, match="no such folder"):
        find_paired([folder / "img1.webp"], masks, "mask_dir", "mask")
    masks.mkdir()
    with pytest.raises(Refused, match=r"img1\.\* there for .*img1.webp \(found: none\)"):
        find_paired([folder / "img1.webp"], masks, "mask_dir", "mask")
    (masks / "img1.png").write_bytes(b"m")
    (masks / "img1.bmp").write_bytes(b"m")
    with pytest.raises(Refused, match="found: img1"):
        find_paired([folder / "img1.webp"], masks, "mask_dir", "mask")


def test_all_pictures_without_a_mask_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    frames = [tmp_path / f"frame{number}.png" for number in range(1, 1015)]
    with pytest.raises(Refused, match=r"frame1\.\* there .*; the same goes for 1 more: frame2\.png$"):
        find_paired(frames[:2], tmp_path / "masks", "mask_dir", "mask")
    with pytest.raises(Refused, match=r"goes for 1,013 more: frame2\.png, .*, frame11\.png, \.\.\.$"):
        find_paired(frames, tmp_path / "masks", "mask_dir", "mask")


def test_every_form_of_an_input_is_the_same_picture() -> None:
    assert as_picture("a.png", 0) == Picture(image="a.png")
    assert as_picture(Path("a.png"), 0) == Picture(image=Path("a.png"))
    assert as_picture(bytearray(b"x"), 0) == Picture(image=b"x")
    assert as_picture(("a.png", b"m"), 0) == Picture(image="a.png", mask=b"m")
    assert as_picture(["a.png", "m.png"], 0) == Picture(image="a.png", mask="m.png")
    assert as_picture({"image": b"x", "seed": 3}, 0) == Picture(image=b"x", seed=3)
    flat = as_picture({"image": "a", "control/0": "c", "steps": 9, "seed": None, "folder": "x"}, 0)
    assert flat == Picture(pictures={"image": "a", "control/0": "c"}, params={"steps": 9}, folder="x")
    assert as_picture({"pictures": {"image": "a"}, "params": {"steps": 9}}, 0) == Picture(image="a", steps=9)


@pytest.mark.parametrize(
    "item", [3, None, ("a", "b", "c"), {"mask": 5}, {"image": 5}, {"image": "a", "params": 1}]
)
def test_anything_else_is_refused_with_its_place(item: object) -> None:
    with pytest.raises(Refused, match=r"inputs\[4\]"):
        as_picture(item, 4)


def test_a_picture_goes_by_its_files_stem() -> None:
    assert Picture(image="dir/My photo.v2.png").label == "My photo.v2"
    assert Picture(image="dir/a.png", name="b").label == "b"
    assert Picture(image=b"x").label is None
    assert Picture(image="a\udcff.png").label == "a?"


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"inputs\[0\].image is .*No such file"):
        read_source(tmp_path / "gone.png", "inputs[0].image")
    with pytest.raises(Refused, match="Is a directory"):
        read_source(tmp_path, "mask")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(Refused, match="a pipe or a device"):
        read_source(tmp_path / "pipe.png", "image")


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_does_not_mean_the_working_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(Refused, match="inputs is "):
        find_pictures([name])


def test_a_file_beyond_all_measure_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(257 * 1024 * 1024)
    with pytest.raises(Refused, match="at most 268,435,456 bytes"):
        read_source(tmp_path / "huge.png", "image")
