"""What inputs bring of their own in texts: infotexts, and prompts in files beside them."""

import io
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from img2img_producer.from_infotext import LABELS, infotext_names
from img2img_producer.inputs import Picture
from img2img_producer.own_texts import OwnTexts
from img2img_producer.picture_folders import pair, pictures_below
from img2img_shared.errors import Refused
from img2img_shared.params import Params

TEXT = (
    "a cat, (sleeping:1.2)\nNegative prompt: a dog\n"
    "Steps: 31, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.5, Seed: 99, Size: 640x384, "
    "Model hash: 0123456789, Denoising strength: 0.4, Clip skip: 2, Variation seed: 5, "
    "Variation seed strength: 0.3, Version: v1.10.1"
)
#: the names in A1111's batch tab
TAB = "Prompt, Negative prompt, Seed, CFG scale, Sampler, Steps"


def png(text: str | None = None) -> bytes:
    data, info = io.BytesIO(), PngInfo()
    if text is not None:
        info.add_itxt("parameters", text)
    Image.new("RGB", (8, 8)).save(data, "PNG", pnginfo=info)
    return data.getvalue()


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(png(TEXT))
    return path


def test_an_infotexts_parameters_are_its_inputs_and_prompts_are_put_behind_the_jobs(cat: Path) -> None:
    job = Params(prompt="oil painting of", steps=5)
    own = OwnTexts(job, infotext=infotext_names(TAB))
    assert own(Picture(image=cat)).params == {
        "prompt": "oil painting of a cat, (sleeping:1.2)",
        "negative_prompt": "a dog",
        "seed": "99",
        "cfg_scale": "4.5",
        "sampler_name": "DPM++ 2M",
        "steps": "31",
    }
    assert list(own.notes()) == []
    rest = OwnTexts(job, infotext=[name for name in LABELS if name not in infotext_names(TAB)])
    assert rest(Picture(image=cat)).params == {
        "scheduler": "Karras",
        "width": "640",
        "height": "384",
        "denoising_strength": "0.4",
        "clip_skip": "2",
        "subseed": "5",
        "subseed_strength": "0.3",
    }


def test_what_an_input_has_already_stays(cat: Path) -> None:
    own = OwnTexts(Params(), infotext=("seed", "steps"))
    assert own(Picture(image=cat, seed=1, name="x", folder="y")) == Picture(
        image=cat, seed=1, steps="31", name="x", folder="y"
    )


def test_inputs_without_an_infotext_are_the_jobs_and_are_told(tmp_path: Path, cat: Path) -> None:
    own = OwnTexts(Params(), infotext=("seed",))
    for number in range(5):
        path = tmp_path / f"plain{number}.png"
        path.write_bytes(png())
        assert own(Picture(image=path)).params == {}
    own(Picture(image=cat))
    (note,) = own.notes()
    assert "5 of the inputs" in note
    assert "plain2.png, ..." in note
    assert "cat" not in note


def test_infotexts_may_lie_in_another_folder(tmp_path: Path, cat: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "cat.png").write_bytes(png())
    own = OwnTexts(Params(), infotext=("seed",), infotext_folder=tmp_path)
    assert own(Picture(image=tmp_path / "new" / "cat.png")).params == {"seed": "99"}
    assert own(Picture(image=tmp_path / "new" / "dog.png")).params == {}
    assert len(list(own.notes())) == 1


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (TAB, ("prompt", "negative_prompt", "seed", "cfg_scale", "sampler_name", "steps")),
        ("seed,prompt,seed", ("seed", "prompt")),
        ("negative-prompt, SIZE-1", ("negative_prompt", "width")),
    ],
)
def test_parameters_are_named_as_here_or_as_in_infotexts(text: str, names: tuple[str, ...]) -> None:
    assert infotext_names(text) == names


@pytest.mark.parametrize(("text", "message"), [("Model hash", "--model"), ("sed", "seed"), ("", "seed")])
def test_what_no_infotext_gives_is_refused(text: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        infotext_names(text)


def test_a_prompt_file_beside_a_picture_is_its_prompt(tmp_path: Path) -> None:
    for stem, data in {"a.v2": "\ufeffa cat,\r\nasleep \n".encode(), "b": b""}.items():
        (tmp_path / f"{stem}.txt").write_bytes(data)
    own = OwnTexts(Params(prompt="else"), prompt_files=True)
    assert own(Picture(image=tmp_path / "a.v2.jpg")).params == {"prompt": "a cat,\r\nasleep"}
    assert own(Picture(image=tmp_path / "b.jpg")).params == {"prompt": ""}
    assert own(Picture(image=tmp_path / "b.jpg", prompt="mine")).params == {"prompt": "mine"}
    assert own(Picture(image=tmp_path / "c.jpg")).params == {}
    (note,) = own.notes()
    assert "1 of the inputs" in note
    assert "c.jpg" in note


def test_a_missing_or_unreadable_prompt_file_is_refused(tmp_path: Path) -> None:
    own = OwnTexts(Params(), prompt_files=True)
    with pytest.raises(Refused, match=r"a\.txt.*--prompt"):
        own(Picture(image=tmp_path / "a.jpg"))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="UTF-8"):
        own(Picture(image=tmp_path / "a.jpg"))
    (tmp_path / "a.txt").write_bytes(b"x" * 100_001)
    with pytest.raises(Refused, match="100,000 bytes"):
        own(Picture(image=tmp_path / "a.jpg"))


def test_folders_of_folders_are_walked_each_once_and_told_where_pictures_lie(tmp_path: Path) -> None:
    for name in (
        "b10.png",
        "b9.png",
        "day/a.png",
        "day/late/c.jpg",
        ".hidden/x.png",
        "out/a.png",
        "day/n.txt",
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "in" / "day" / "round").symlink_to(tmp_path / "in")
    found = list(pictures_below(tmp_path / "in", tmp_path / "in" / "out"))
    assert [(picture.label, picture.folder) for picture in found] == [
        ("b9", None),
        ("b10", None),
        ("a", "day"),
        ("c", "day/late"),
    ]


def test_masks_of_folders_of_folders_lie_as_their_pictures_do(tmp_path: Path) -> None:
    for name in ("in/a.png", "in/day/a.png", "masks/a.png", "masks/day/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    pictures = list(pictures_below(tmp_path / "in"))
    pair(pictures, "mask", tmp_path / "masks", "mask_dir", "mask")
    assert [picture.pictures["mask"] for picture in pictures] == [
        tmp_path / "masks/a.png",
        tmp_path / "masks/day/a.jpg",
    ]
    (tmp_path / "masks/day/a.jpg").unlink()
    with pytest.raises(Refused, match="day"):
        pair(pictures, "mask", tmp_path / "masks", "mask_dir", "mask")
