"""Names of results: each its input's, no two alike, none over an input."""

import hashlib
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2img_producer.inputs import Picture
from img2img_producer.outputs import refuse_overwriting, save, writable_folder
from img2img_shared.errors import FarmError, Refused
from img2img_shared.farm.output_names import OutputNames
from img2img_shared.params import Params

NAMES = ["a", "A", "a-2", "a-2-2", "a--2", "a_2", "b", "00001"]


def test_outputs_keep_their_inputs_stem_and_count_from_two() -> None:
    assert list(OutputNames(["cat", "dog"], 3)) == ["cat", "cat-2", "cat-3", "dog", "dog-2", "dog-3"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["dup.jpg", "dup.png"], ["dup.jpg", "dup.png"]),
        (["a/cat.png", "b/cat.png"], ["a_cat", "b_cat"]),
        (["a/cat.png", "b/cat.png", "b/cat.jpg"], ["a_cat.png", "b_cat.png", "b_cat.jpg"]),
        (["x/a/cat.png", "y/a/cat.png"], ["x_a_cat", "y_a_cat"]),
        (["cat.png", "/photos/cat.png"], ["cat", "photos_cat"]),
        (["cat.png", "cat.png", "a/cat.png"], ["cat", "cat_2", "cat_3"]),
        (["a/cat.png", "b/cat.png", "a_cat.png"], ["a_cat.png", "b_cat.png", "a_cat"]),
    ],
)
def test_inputs_of_one_stem_go_by_what_tells_them_apart(paths: list[str], names: list[str]) -> None:
    assert list(OutputNames([Path(path).stem for path in paths], 1, paths=paths)) == names


def test_inputs_that_nothing_tells_apart_have_numbers_that_no_output_has() -> None:
    assert list(OutputNames(["cat", "CAT", "cat_2"], 1)) == ["cat", "CAT_3", "cat_2"]
    assert list(OutputNames(["cat", "cat"], 2)) == ["cat", "cat-2", "cat_2", "cat_2-2"]


def test_a_name_that_was_chosen_is_not_made_a_file_name() -> None:
    assert list(OutputNames(["mine", "mine"], 1, paths=["a/x.png", "b/y.png"])) == ["mine", "mine_2"]


def test_a_second_output_is_never_taken_for_a_second_input() -> None:
    assert list(OutputNames(["cat", "cat-2"], 2)) == ["cat", "cat--2", "cat-2", "cat-2--2"]
    assert list(OutputNames(["cat", "cat-3"], 2)) == ["cat", "cat-2", "cat-3", "cat-3-2"]


def test_bytes_without_a_name_go_by_their_number() -> None:
    assert list(OutputNames([None, "", "x"], 1)) == ["00000", "00001", "x"]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "a\\b", ".bashrc", "..", "a\x00b", "a\nb", "é" * 300]
)
def test_a_name_that_others_chose_stays_in_its_folder(name: str) -> None:
    (stem,) = OutputNames([name], 1)
    assert Path("/out", stem).parent == Path("/out")
    assert not stem.startswith(".")
    assert len(stem.encode()) <= 200
    assert stem.isprintable()


def test_inputs_of_one_name_in_two_folders_keep_it() -> None:
    names = OutputNames(["cat", "cat", "CAT", None], 2, ".png", ["day", None, "day", "night/late"])
    assert list(names) == [
        *("day/cat.png", "day/cat-2.png", "cat.png", "cat-2.png"),
        *("day/CAT_2.png", "day/CAT_2-2.png", "night/late/00003.png", "night/late/00003-2.png"),
    ]


@given(st.lists(st.none() | st.sampled_from(NAMES), max_size=12), st.integers(1, 4))
def test_no_two_outputs_share_a_file_and_the_first_of_a_name_keeps_it(
    names: list[str | None], per_input: int
) -> None:
    stems = list(OutputNames(names, per_input))
    assert len({stem.casefold() for stem in stems}) == len(stems) == len(names) * per_input
    for index, name in enumerate(names):
        before = {(other or "").casefold() for other in names[:index]} | {"00001"}
        if name is not None and name.casefold() not in before:
            assert stems[index * per_input] == name


def test_names_of_many_outputs_are_made_when_they_are_asked_for() -> None:
    tracemalloc.start()
    names = OutputNames(["cat", "cat-3", "cat"], 1_000_000, ".png")
    assert (names[1], names[2], names[999_999]) == ("cat--2.png", "cat--3.png", "cat--1000000.png")
    assert (names[1_000_000], names[2_000_000]) == ("cat-3.png", "cat_2.png")
    assert names[2_999_999] == names[-1:][0] == "cat_2--1000000.png"
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_a_result_replaces_another_file_only_where_that_is_said_and_leaves_nothing_else(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    save(b"first", out / "a.png")
    save(b"first", out / "a.png")  # fetched again
    with pytest.raises(
        Refused, match=r"out is .*: it has another a\.png; give another folder, or --overwrite"
    ):
        save(b"second", out / "a.png")
    assert (out / "a.png").read_bytes() == b"first"
    save(b"second", out / "a.png", overwrite=True)
    assert (out / "a.png").read_bytes() == b"second"
    assert len(list(out.iterdir())) == 1


def test_a_result_never_replaces_an_input_of_its_job(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"original")
    with pytest.raises(Refused, match=r"a\.png there is an input"):
        save(b"result", tmp_path / "a.png", {hashlib.sha256(b"original").hexdigest()}, overwrite=True)
    assert (tmp_path / "a.png").read_bytes() == b"original"


def test_a_place_where_nothing_can_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(FarmError, match=r"cannot write .*out/a\.png: "):
        save(b"x", tmp_path / "out" / "a.png")


def test_a_folder_for_results_is_made_and_left_empty(tmp_path: Path) -> None:
    writable_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_that_takes_no_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(Refused, match=r"out is .*: cannot be written to"):
            writable_folder(folder)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which not even root can write")
def test_a_folder_that_is_there_but_read_only_is_refused() -> None:
    with pytest.raises(Refused, match=r"out is '/proc/self': cannot be written to"):
        writable_folder(Path("/proc/self"))


def test_an_out_folder_that_holds_the_inputs_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    pictures = [Picture(image=tmp_path / "a.png"), Picture(image=tmp_path / "b.jpg", mask=tmp_path / "b.png")]
    for name in ("a.png", "b.jpg", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    refuse_overwriting(pictures, (), Params(output_format="webp"), tmp_path)
    refuse_overwriting(pictures, (), Params(), tmp_path / "out")
    with pytest.raises(Refused, match=r"a\.png there is an input"):
        refuse_overwriting(pictures, (), Params(), tmp_path / "out" / "..")
    with pytest.raises(Refused, match=r"b\.png there is an input"):
        refuse_overwriting(pictures[1:], (), Params(), tmp_path, overwrite=True)


def test_an_out_folder_that_holds_other_files_of_these_names_is_refused_before_anything_is_done(
    tmp_path: Path,
) -> None:
    pictures = [Picture(image=tmp_path / "a.jpg")]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_bytes(b"something else")
    refuse_overwriting(pictures, (), Params(), tmp_path / "out")
    (tmp_path / "out" / "a.png").write_bytes(b"of last week")
    with pytest.raises(Refused, match=r"it has another a\.png"):
        refuse_overwriting(pictures, (), Params(), tmp_path / "out")
    refuse_overwriting(pictures, (), Params(), tmp_path / "out", overwrite=True)
