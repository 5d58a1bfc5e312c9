"""A checkpoint is one, however it is called; its hash says so."""

import hashlib
from pathlib import Path

import pytest

from img2img_shared.checkpoints import (
    Checkpoint,
    checkpoint_name,
    checkpoints_in,
    find_checkpoint,
    sha256_of,
    with_hashes,
)
from img2img_shared.errors import Refused
from img2img_worker.models.checkpoints.catalog import find_other

SHA = "5166b7f969" + "0" * 54
SD15 = Checkpoint(model="/models/sd15.safetensors", file_name="sd15.safetensors", sha256=SHA)
XL = Checkpoint(model="xl", file_name="xl", sha256=None)


@pytest.mark.parametrize(
    "wanted",
    [
        "/models/sd15.safetensors",
        "/elsewhere/sd15.safetensors",
        "sd15",
        "SD15",
        "sd15.safetensors",
        "sd15.ckpt",
        "sub\\sd15.safetensors",
        "sd15.safetensors [5166b7f969]",
        "sd15 [5166b7f969]",
        "5166b7f969",
        SHA,
    ],
)
def test_a_checkpoint_is_found_by_whatever_it_is_called(wanted: str) -> None:
    assert find_checkpoint(wanted, [SD15, XL]) is SD15


@pytest.mark.parametrize(
    "wanted", ["sd1", "sd15.safetensors [0123456789]", "xl.safetensors [5166b7f969]", ""]
)
def test_another_is_not(wanted: str) -> None:
    assert find_checkpoint(wanted, [SD15]) is None


def test_another_checkpoint_of_the_folder_is_found_by_its_name_and_by_no_other_ones_hash(
    tmp_path: Path,
) -> None:
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "dream.safetensors"
    path.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    for wanted in ("sub/dream", "dream", "dream.safetensors", f"dream.safetensors [{sha256[:10]}]"):
        found = find_other(wanted, tmp_path)
        assert (found.model, found.path, found.sha256) == ("sub/dream", path, sha256)
    for wanted in ("dream [0123456789]", "another"):
        with pytest.raises(Refused, match="one of sub/dream"):
            find_other(wanted, tmp_path)
    with pytest.raises(Refused, match="the folder has none"):
        find_other("dream", None)


def test_a_title_with_the_hash_of_a_checkpoint_that_nobody_has_read_is_its_name() -> None:
    assert find_checkpoint("xl [0123456789]", [SD15, XL]) is XL


def test_a_name_that_two_have_is_refused_unless_they_are_the_same() -> None:
    other = Checkpoint(model="sd15", file_name="sd15.safetensors", sha256="f" * 64)
    assert find_checkpoint("sd15", [SD15, other]) is other  # exactly its name
    with pytest.raises(Refused, match=r"/models/sd15\.safetensors, sd15"):
        find_checkpoint("sd15.safetensors", [SD15, other])
    same = Checkpoint(model="again", file_name="sd15.safetensors", sha256=SHA)
    assert find_checkpoint("sd15.safetensors", [SD15, same]) is SD15


def test_a_path_on_this_machine_means_that_file(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sd15.safetensors").write_bytes(folder.encode())
    here = Checkpoint(model="sd15", file_name="sd15.safetensors", path=tmp_path / "a" / "sd15.safetensors")
    assert find_checkpoint(str(tmp_path / "a" / "sd15.safetensors"), [here]) is here
    assert find_checkpoint(str(tmp_path / "a" / ".." / "a" / "sd15.safetensors"), [here]) is here
    assert find_checkpoint(str(tmp_path / "b" / "sd15.safetensors"), [here]) is None


def test_a_title_is_as_a1111_shows_it() -> None:
    assert (SD15.title, SD15.name, SD15.short_hash) == ("sd15.safetensors [5166b7f969]", "sd15", "5166b7f969")
    assert (XL.title, XL.name, XL.short_hash) == ("xl", "xl", None)


def test_a_models_folder_is_served_by_names(tmp_path: Path) -> None:
    for folder in ("dream", "empty", "both"):
        (tmp_path / folder).mkdir()
    for file in ("dream/model_index.json", "both/model_index.json", "both.safetensors", "v1.5.safetensors"):
        (tmp_path / file).touch()
    for file in ("old.ckpt", "notes.txt", ".hidden.safetensors"):
        (tmp_path / file).touch()
    found = checkpoints_in(tmp_path)
    assert found == {
        "both": tmp_path / "both",
        "dream": tmp_path / "dream",
        "v1.5": tmp_path / "v1.5.safetensors",
    }
    assert list(checkpoints_in(tmp_path, pickles=True)) == ["both", "dream", "old", "v1.5"]
    assert checkpoints_in(tmp_path / "nowhere") == {}


def test_a_name_keeps_its_points() -> None:
    assert checkpoint_name("models/sd-v1.5.safetensors") == "sd-v1.5"
    assert checkpoint_name("models/sd-v1.5") == "sd-v1.5"


def test_a_files_hash_is_a1111s(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    for weights in (b"weights", b"other weights"):
        file.write_bytes(weights)
        assert sha256_of(file) == hashlib.sha256(weights).hexdigest()


def test_a_folders_hash_changes_with_what_its_pictures_depend_on(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights.safetensors").write_bytes(b"1")
    (tmp_path / "model_index.json").write_text("{}")
    before = sha256_of(tmp_path)
    (tmp_path / "README.md").write_text("about")
    assert sha256_of(tmp_path) == before
    (tmp_path / "unet" / "weights.safetensors").rename(tmp_path / "unet" / "other.safetensors")
    renamed = sha256_of(tmp_path)
    (tmp_path / "model_index.json").write_text("{ }")
    assert len({before, renamed, sha256_of(tmp_path)}) == 3


def test_hashes_are_read_for_a_while_and_then_left(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"a")
    here = Checkpoint(model="a", file_name="a.safetensors", path=tmp_path / "a.safetensors")
    gone = Checkpoint(model="b", file_name="b.safetensors", path=tmp_path / "b.safetensors")
    assert [each.sha256 for each in with_hashes([here, gone, SD15], 60)] == [
        hashlib.sha256(b"a").hexdigest(),
        None,
        SHA,
    ]
    assert with_hashes([here], 0) == [here]
