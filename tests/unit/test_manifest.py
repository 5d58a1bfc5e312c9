"""Manifests: files that list inputs, a line each."""

import json
import tracemalloc
from pathlib import Path

import pytest

from img2img_producer.check_inputs import check_inputs
from img2img_producer.inputs import Picture
from img2img_producer.manifest import Manifest
from img2img_shared.errors import Refused
from img2img_shared.params import Params


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures and a mask below a folder for manifests."""
    (tmp_path / "frames").mkdir()
    for name in ("a.png", "b.png", "mask.png"):
        (tmp_path / "frames" / name).write_bytes(b"x")
    return tmp_path


def manifest(folder: Path, text: str | bytes, name: str = "list.csv") -> Manifest:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Manifest(path)


def findings(pictures: Manifest, **params: object) -> list[str]:
    with pytest.raises(Refused) as caught:
        check_inputs(pictures, Params.model_validate(params), {})
    return [str(each) for each in (caught.value, *caught.value.others)]


def test_a_line_is_an_input_with_pictures_by_role_and_parameters(folder: Path) -> None:
    lines = manifest(
        folder,
        "image,mask,prompt,seed,folder,name,control/0,control\n"
        'frames/a.png,frames/mask.png,"rain, ""heavy""\nrain",7,wet,one,,\n'
        "\n"
        'frames/b.png,,,,,,frames/a.png,"[{""model"": ""canny""}]"\n'
        "frames/a.png\n",
    )
    a, b, mask = (folder / "frames" / name for name in ("a.png", "b.png", "mask.png"))
    own = {"prompt": 'rain, "heavy"\nrain', "seed": "7"}
    assert list(lines) == [
        Picture(image=a, mask=mask, params=own, folder="wet", name="one"),
        Picture(pictures={"image": b, "control/0": a}, control=[{"model": "canny"}]),
        Picture(image=a),
    ]
    assert [lines.place(index) for index in range(3)] == [f"list.csv line {n}" for n in (2, 5, 6)]
    assert lines[1:] == [lines[1], lines[2]]
    check_inputs(lines, Params(), {})


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_spreadsheets_save_is_read(folder: Path, delimiter: str, end: str) -> None:
    rows = [["image", " prompt ", ""], ["frames/a.png", "Käse", ""], ["frames/b.png", " ", ""], ["", "", ""]]
    text = "\ufeff" + "".join(delimiter.join(row) + end for row in rows)
    lines = manifest(folder, text)
    assert [picture.params for picture in lines] == [{"prompt": "Käse"}, {}]


def test_json_lines_have_types_empty_texts_and_may_have_maps(folder: Path) -> None:
    rows = [
        {"image": "frames/a.png", "prompt": "", "steps": 9, "tiling": True, "seed": None},
        {"pictures": {"image": "frames/b.png"}, "params": {"cfg_scale": 2.5}},
        {"image": str(folder / "frames" / "a.png")},
    ]
    lines = manifest(folder, "\n\n".join(map(json.dumps, rows)), "list.jsonl")
    assert [picture.params for picture in lines] == [
        {"prompt": "", "steps": 9, "tiling": True},
        {"cfg_scale": 2.5},
        {},
    ]
    assert lines[1].image == folder / "frames" / "b.png"


def test_every_wrong_line_is_told_with_its_column_before_anything_is_sent(folder: Path) -> None:
    lines = manifest(
        folder,
        "image,seed,cfg_scale,name,folder\n"
        "frames/a.png,x,nan,a,\n"
        "frames/gone.png,7,,b,\n"
        "frames/a.png,7,inf,c,/etc\n"
        "frames/a.png,7,,d,../up\n"
        "frames/a.png,7,,e,,more\n"
        ",7,,f,\n"
        "frames/a.png,7,,g,\n"
        "frames/b.png,7,,G,\n",
    )
    told = findings(lines)
    places = [
        "2: cfg_scale",
        "3: image",
        "4: cfg_scale",
        "5: folder",
        "6: a cell too many",
        "7: image",
        "9: name",
    ]
    for text, place in zip(told[0].splitlines()[1:], places, strict=True):
        assert text.strip().startswith(f"list.csv line {place}"), text
    assert "folder is '/etc'" in told[0].splitlines()[3]
    assert "seed is 'x'" in told[0].splitlines()[1], "a line is looked at to its end"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "image,promt\nx,y\n", "column 2 is 'promt'.* did you mean prompt"),
        ("a.csv", "image,images_per_input\nx,2\n", "images_per_input.*once for all lines"),
        ("a.csv", "image,seed,seed\nx,1,2\n", "column is 'seed': .*a name of its own"),
        ("a.csv", "image,control/77\nx,y\n", "control/77"),
        ("a.csv", "", "number of lines is 0"),
        ("a.csv", "image\n\n , \n", "number of lines is 0"),
        ("a.csv", 'image,prompt\nframes/a.png,"open\nframes/b.png,x\n', "line 2 is not as CSV has it"),
        ("a.csv", "image\nframes/a.png\n".encode("utf-16"), "UTF-8"),
        ("a.csv", b"image\xff\n", "UTF-8"),
        ("a.csv", bytes(range(256)) * 10, r"^a\.csv: "),
        ("a.csv", "image\n" + "x" * 2_000_000, "line 2 is longer: .*1,048,576"),
        ("a.jsonl", '{"image": "' + "x" * 2_000_000, "line 1 is longer: .*1,048,576"),
        ("a.txt", "image\n", "a.txt.*\\.csv"),
    ],
)
def test_what_is_no_manifest_is_refused_with_the_reason(
    folder: Path, name: str, text: str | bytes, message: str
) -> None:
    with pytest.raises(Refused, match=message):
        manifest(folder, text, name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 1: line"),
        ("[" * 100_000, "line 1: line"),
        ("[1]", "one JSON object"),
        ('{"image": 5}', "line 1: image"),
        ('{"image": "frames/\\u0000"}', "line 1: image"),
        ('{"image": "https://example.org/a.png"}', "line 1: image"),
        ('{"image": "/dev/zero"}', "line 1: image"),
        ('{"image": "frames/a.png", "seed": NaN}', "line 1: seed"),
        ('{"image": "frames/a.png", "seed": 1, "seed": 2}', "'seed' stands there twice"),
        ('{"image": "frames/a.png", "sede": 1}', "column is 'sede'.* did you mean seed"),
        ('{"image": "frames/a.png", "output_format": "jpeg"}', "output_format.*once for all lines"),
        ('{"image": "frames/a.png", "params": {"colour": "\\u001b[31m"}}', r"colour.*\\x1b"),
        ('{"image": "frames/a.png", "\\u001b[31m": 1}', r"column is '\\x1b"),
        ('{"image": "frames/a.png", "params": {"\\u001b[31m": 1}}', r"line 1: \\x1b"),
        ('{"image": "frames/a.png", "name": 5}', "line 1: name"),
        ('{"image": "frames/a.png", "pictures": []}', "line 1: pictures"),
        ('{"image": "frames/a.png", "control/0": "frames/b.png"}', "line 1: control/0"),
        ('{"image": "frames/a.png", "prompt": "\udcff"}', "line 1: "),
    ],
)
def test_a_wrong_line_of_json_is_refused(folder: Path, line: str, message: str) -> None:
    lines = manifest(folder, line.encode("utf-8", "surrogateescape"), "list.jsonl")
    (told,) = findings(lines)
    assert told.isprintable()
    with pytest.raises(Refused, match=message):
        check_inputs(lines, Params(), {})


def test_the_first_twenty_of_many_wrong_lines_are_told(folder: Path) -> None:
    (told, *_) = findings(manifest(folder, "image,steps\n" + "frames/a.png,0\n" * 100))
    assert len(told.splitlines()) == 21
    assert "line 21: steps" in told
    assert "line 22" not in told


def test_many_lines_take_little_memory(folder: Path) -> None:
    text = "image,seed\n" + "frames/a.png,7\n" * 200_000
    tracemalloc.start()
    try:
        lines = manifest(folder, text)
        assert len(lines) == 200_000
        assert lines[199_999].params == {"seed": "7"}
        del text
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 32 * len(lines)


def test_inputs_of_txt2img_need_no_picture(folder: Path) -> None:
    check_inputs(manifest(folder, "prompt,txt2img\nrain,true\n"), Params(), {})
    (told,) = findings(manifest(folder, "prompt\nrain\n"))
    assert "line 2: image" in told
