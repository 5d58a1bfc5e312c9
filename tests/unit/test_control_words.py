"""Control units on the command line: what they look at, and how they join those of a file."""

import json
from pathlib import Path

import pytest

from img2img_producer.cli.render_request import Request
from img2img_producer.cli.sources import Sources
from img2img_producer.control_words import ControlWord
from img2img_shared.errors import Refused


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    for folder in ("frames", "edges"):
        (tmp_path / folder).mkdir()
        for name in ("a.png", "b.png"):
            (tmp_path / folder / name).write_bytes(b"picture")
    return tmp_path


def request(frames: Path, *controls: str, params: Path | None = None) -> Request:
    sources = Sources(inputs=[str(frames / "frames")], control=list(controls))
    return Request.read(sources, params, {}, None, None, elsewhere=True)


def test_pictures_of_a_folder_go_to_the_inputs_of_their_stems(frames: Path) -> None:
    read = request(
        frames, f"canny={frames / 'edges'}", "tile:tile_resample:0.6", f"depth={frames / 'edges' / 'a.png'}"
    )
    assert [(unit.model, unit.module, unit.weight) for unit in read.params.control] == [
        ("canny", "none", 1.0),
        ("tile", "tile_resample", 0.6),
        ("depth", "none", 1.0),
    ]
    first, second = read.pictures
    assert first.pictures["control/0"] == frames / "edges" / "a.png"
    assert second.pictures["control/0"] == frames / "edges" / "b.png"
    assert "control/1" not in first.pictures
    assert read.for_all == {"control/2": frames / "edges" / "a.png"}


def test_they_come_after_those_of_a_file_of_parameters(frames: Path) -> None:
    file = frames / "params.json"
    file.write_text(json.dumps({"control": [{"model": "first"}], "steps": 7}))
    read = request(frames, f"second={frames / 'edges'}", params=file)
    assert [unit.model for unit in read.params.control] == ["first", "second"]
    assert "control/1" in read.pictures[0].pictures


def test_an_input_without_a_control_picture_is_told(frames: Path) -> None:
    (frames / "edges" / "b.png").unlink()
    with pytest.raises(Refused, match=r"one control picture named b\.\*"):
        request(frames, f"canny={frames / 'edges'}")


def test_lines_of_a_manifest_bring_control_pictures_in_columns_and_units_stand_on_the_command_line(
    frames: Path,
) -> None:
    manifest = frames / "list.csv"
    manifest.write_text("image,control/0\nframes/a.png,edges/a.png\nframes/b.png,\n")
    one = f"depth={frames / 'edges' / 'b.png'}"
    read = Request.read(
        Sources(manifest=manifest, control=["canny", one]), None, {}, None, None, elsewhere=True
    )
    assert read.pictures[0].pictures["control/0"] == frames / "edges" / "a.png"
    assert read.pictures[1].pictures.keys() == {"image"}
    assert read.for_all == {"control/1": frames / "edges" / "b.png"}
    folder = Sources(manifest=manifest, control=[f"canny={frames / 'edges'}"])
    with pytest.raises(Refused, match="control/0"):
        Request.read(folder, None, {}, None, None, elsewhere=True)


@pytest.mark.parametrize("word", ["", "=edges", "canny:canny:much", "a:b:1:2"])
def test_a_word_of_another_form_is_refused(word: str) -> None:
    with pytest.raises(Refused, match="NETWORK"):
        ControlWord.read(word)
