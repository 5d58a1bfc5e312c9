"""What is skipped in folders and globs is named, with why."""

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from img2img_producer import inputs
from img2img_producer.inputs import find_pictures
from img2img_producer.skipped import describe, skipped_files
from img2img_shared.errors import Refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of all kinds, and other things."""
    for name in ("a.png", "phone.HEIC", "notes.txt", ".hidden.png", "below/b.jpg", ".cache/c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def skipped(*names: Path | str) -> dict[str, list[str]]:
    texts = [str(name) for name in names]
    found = skipped_files(texts, find_pictures(texts))
    return {why: [path.name for path in paths] for why, paths in found.items()}


def test_a_phones_pictures_are_skipped_by_name_where_nothing_reads_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "find_spec", lambda _: None)
    assert skipped(folder) == {
        "HEIC: pip install 'img2img-farm[photos]', here and where it is rendered": ["phone.HEIC"],
        "no pictures, by their names": ["notes.txt"],
        "in folders below; --recursive takes these too": ["b.jpg"],
    }


def test_a_phones_pictures_are_taken_where_they_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "find_spec", lambda _: ModuleSpec("pillow_heif", None))
    assert [path.name for path in find_pictures([folder])] == ["a.png", "phone.HEIC"]


def test_a_glob_skips_what_it_matches_and_is_no_picture(folder: Path) -> None:
    (folder / "phone.HEIC").unlink()
    assert skipped(f"{folder}/*") == {"no pictures, by their names": ["notes.txt"]}
    assert skipped(folder / "a.png") == {}


def test_a_video_is_not_rendered_and_the_way_to_its_frames_is_told(folder: Path) -> None:
    video = folder / "clip.MP4"
    video.write_bytes(b"")
    (found,) = (why for why, names in skipped(folder).items() if "clip.MP4" in names)
    assert found.startswith("a video; render its frames: ffmpeg ")
    with pytest.raises(Refused, match="it is a video"):
        find_pictures([video])


def test_a_link_to_nothing_is_skipped_as_such(folder: Path) -> None:
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    assert skipped(folder)["a link to nothing"] == ["gone.png"]


def test_what_may_be_missed_comes_first_and_the_line_stays_short() -> None:
    kinds = {
        "no pictures, by their names": [Path(f"{number}.txt") for number in range(7)],
        "in folders below; --recursive takes these too": [Path("a\n.png")],
    }
    assert describe(kinds) == (
        "8 files skipped: a\\n.png (in folders below; --recursive takes these too); "
        "0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more (no pictures, by their names)"
    )
