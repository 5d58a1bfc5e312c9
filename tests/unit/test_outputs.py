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
from img2img_shared.farm.originals import OutputNames
from img2img_shared.params import Params

NAMES = ["a", "A", "a-2", "a-2-2", "b", "00001"]


def test_outputs_keep_their_inputs_stem_and_count_from_two() -> None:
    assert list(OutputNames(["cat", "dog"], 3)) == ["cat", "cat-2", "cat-3", "dog", "dog-2", "dog-3"]


def test_inputs_of_one_name_from_two_folders_keep_apart() -> None:
    assert list(OutputNames(["cat", "cat", "CAT"], 1)) == ["cat", "cat-2", "CAT-3"]


def test_an_input_called_like_anothers_second_output_keeps_its_name() -> None:
    assert list(OutputNames(["cat", "cat-2"], 2)) == ["cat", "cat-3", "cat-2", "cat-2-2"]


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
        *("day/CAT-3.png", "day/CAT-4.png", "night/late/00003.png", "night/late/00003-2.png"),
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
    assert (names[1], names[2], names[999_999]) == ("cat-2.png", "cat-4.png", "cat-1000001.png")
    assert (names[1_000_000], names[2_000_000]) == ("cat-3.png", "cat-1000002.png")
    assert names[2_999_999] == names[-1:][0] == "cat-2000001.png"
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_a_result_replaces_an_earlier_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    for data in (b"first", b"second"):
        save(data, tmp_path / "out" / "a.png")
    assert (tmp_path / "out" / "a.png").read_bytes() == b"second"
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_result_never_replaces_an_input_of_its_job(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"original")
    with pytest.raises(Refused, match=r"another folder: a\.png there is an input"):
        save(b"result", tmp_path / "a.png", {hashlib.sha256(b"original").hexdigest()})
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
        with pytest.raises(Refused, match=r"out: .*a folder that can be written to"):
            writable_folder(folder)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which not even root can write")
def test_a_folder_that_is_there_but_read_only_is_refused() -> None:
    with pytest.raises(Refused, match=r"out: '/proc/self' .*a folder that can be written to"):
        writable_folder(Path("/proc/self"))


def test_an_out_folder_that_holds_the_inputs_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    pictures = [Picture(image=tmp_path / "a.png"), Picture(image=tmp_path / "b.jpg", mask=tmp_path / "b.png")]
    refuse_overwriting(pictures, None, Params(output_format="webp"), tmp_path)
    refuse_overwriting(pictures, None, Params(), tmp_path / "out")
    with pytest.raises(Refused, match=r"a\.png there is an input"):
        refuse_overwriting(pictures, None, Params(), tmp_path / "out" / "..")
    with pytest.raises(Refused, match=r"b\.png there is an input"):
        refuse_overwriting(pictures[1:], None, Params(), tmp_path)
