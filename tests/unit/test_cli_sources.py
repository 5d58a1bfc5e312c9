"""Where a command line's inputs come from: options that go together, and those that do not."""

from pathlib import Path
from typing import Any

import pytest

from img2img_producer.cli.render_request import Request
from img2img_producer.cli.sources import Sources
from img2img_shared.errors import Refused


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: pictures, a manifest of one, and a folder with another."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "cat.png",
        "dog.jpg",
        "more/cat.png",
        "more/notes.txt",
        "masks/cat.png",
        "masks/more/cat.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "list.csv").write_text("image\ncat.png\n")
    return tmp_path


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"manifest": Path("list.csv"), "inputs": ["cat.png"]}, "inputs is "),
        ({"manifest": Path("list.csv"), "mask_dir": Path("masks")}, "mask_dir is "),
        ({"manifest": Path("list.csv"), "recursive": True}, "recursive is "),
        ({"manifest": Path("gone.csv")}, "gone.csv"),
        ({"inputs": ["cat.png"], "recursive": True}, "recursive is "),
        ({"inputs": ["cat.png"], "infotext_dir": Path("more")}, "--from-infotext"),
        ({"inputs": ["cat.png"], "infotext_dir": Path("gone"), "from_infotext": "seed"}, "infotext_dir is "),
        ({"inputs": ["cat.png"], "from_infotext": "prompt", "prompt_files": True}, "not both"),
        ({"inputs": ["cat.png"], "from_infotext": "Model hash"}, "--model"),
        ({"inputs": ["cat.png"], "mask": Path("cat.png"), "mask_dir": Path("masks")}, "not both"),
        ({}, "at least one picture"),
    ],
)
def test_options_that_contradict_each_other_are_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        Request.read(Sources(**said), None, {}, None, None, elsewhere=False)


def test_files_and_folders_may_be_named_together_and_what_is_skipped_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = Sources(inputs=["dog.jpg", "more"], recursive=True).pictures(None)
    assert [(picture.path, picture.folder) for picture in found] == [
        ("dog.jpg", None),
        ("more/cat.png", None),
    ]
    assert "1 file skipped: more/notes.txt" in capsys.readouterr().err


def test_masks_and_outputs_of_folders_of_folders_lie_as_pictures_do(folder: Path) -> None:
    (folder / "dog.jpg").unlink()
    (folder / "out").mkdir()
    (folder / "out" / "cat.png").write_bytes(b"of the last time")
    (folder / "masks").rename(folder.parent / "masks")
    found = Sources(inputs=["."], recursive=True, mask_dir=folder.parent / "masks").pictures(folder / "out")
    assert [(picture.path, picture.folder) for picture in found] == [
        ("cat.png", None),
        ("more/cat.png", "more"),
    ]
    assert found[1].pictures["mask"] == folder.parent / "masks/more/cat.png"


def test_nothing_said_is_nothing_given() -> None:
    assert not Sources().are_given
    assert Sources(prompt_files=True).are_given


def test_ctrl_c_while_a_folder_is_read_calls_no_file_skipped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("img2img_producer.cli.sources.find_pictures", stopped)
    with pytest.raises(KeyboardInterrupt):
        Sources(inputs=["more"]).pictures(None)
    assert capsys.readouterr().err == ""
