"""Inputs with every choice of values."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from img2img_producer.cli.render_request import Request
from img2img_producer.cli.sources import Sources
from img2img_producer.inputs import Picture
from img2img_producer.sheets import check_sheets, save_sheets
from img2img_producer.varied import Axis, Varied
from img2img_shared.errors import Refused
from img2img_shared.params import Params

STEPS, SCALES = Axis.of("steps", [10, 20]), Axis.of("cfg_scale", [4.0, 7.0, 9.0])


def test_each_input_has_every_choice_and_the_first_axis_counts_fastest() -> None:
    inputs = [Picture(image="a.png", prompt="rain"), Picture(image="b.png", name="sea")]
    varied = Varied(inputs, [STEPS, SCALES], Params(seed=5))
    assert [each.label for each in varied] == [f"{name}-{n}" for name in ("a", "sea") for n in range(1, 7)]
    told = [(each.params["steps"], each.params["cfg_scale"]) for each in varied[:6]]
    assert told == [(10, 4.0), (20, 4.0), (10, 7.0), (20, 7.0), (10, 9.0), (20, 9.0)]
    assert varied[0].params["prompt"] == "rain"
    assert varied[-1].image == "b.png"


def test_all_choices_of_an_input_have_one_seed_unless_that_varies() -> None:
    def seeds(axis: Axis, params: Params, **own: Any) -> list[Any]:
        inputs = [Picture(image="a.png", params=own), Picture(image="b.png")]
        return [each.params.get("seed") for each in Varied(inputs, [axis], params)]

    assert seeds(STEPS, Params(seed=5, images_per_input=3)) == [5, 5, 8, 8]
    assert seeds(STEPS, Params(seed=5), seed=9) == [9, 9, 6, 6]
    assert seeds(Axis.of("seed", [1, 2]), Params(seed=5)) == [1, 2, 1, 2]
    assert seeds(STEPS, Params(seed=5, seed_mode="same")) == [None] * 4
    drawn = seeds(STEPS, Params())
    assert drawn[0] == drawn[1] >= 0


def test_values_are_written_as_in_csv() -> None:
    assert Axis.read("steps=10, 20").choices == [{"steps": "10"}, {"steps": "20"}]
    assert Axis.read('prompt="a, b",c').choices == [{"prompt": "a, b"}, {"prompt": "c"}]
    assert Axis.read("denoising-strength=0.5").choices == [{"denoising_strength": "0.5"}]


@pytest.mark.parametrize("word", ["steps", "steps=", "stepz=1", "image=a.png", "images_per_input=1,2", '="a'])
def test_what_cannot_vary_is_refused(word: str) -> None:
    with pytest.raises(Refused):
        Axis.read(word)


def test_a_matrix_and_a_file_vary_the_prompt(tmp_path: Path) -> None:
    choices = [each["prompt"] for each in Axis.of_matrix("a cat| at night,|in snow").choices]
    assert choices == ["a cat", "a cat, at night", "a cat, in snow", "a cat, at night, in snow"]
    (tmp_path / "prompts.txt").write_text("a boat\n\n  a tree \n")
    assert Axis.of_lines(tmp_path / "prompts.txt").choices == [{"prompt": "a boat"}, {"prompt": "a tree"}]
    with pytest.raises(Refused, match="between bars"):
        Axis.of_matrix("a cat")
    with pytest.raises(Refused, match="cannot be read"):
        Axis.of_lines(tmp_path / "none.txt")


def test_one_parameter_varies_once_and_not_without_end() -> None:
    with pytest.raises(Refused, match="vary once"):
        Varied([], [STEPS, Axis.of("steps", [5])])
    with pytest.raises(Refused, match="10,000"):
        Varied([], [Axis.of("seed", range(101)), Axis.of("steps", range(101))])


def test_a_command_line_checks_each_choice(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()

    def read(**options: Any) -> Request:
        sources = Sources(inputs=[str(tmp_path / "a.png")], **options)
        return Request.read(sources, None, {"prompt": "a|b", "seed": 3}, None, "m", elsewhere=True)

    request = read(vary=["steps=10,20"], prompt_matrix=True)
    assert [each.params["prompt"] for each in request.pictures] == ["a", "a", "a, b", "a, b"]
    assert {each.params["seed"] for each in request.pictures} == {3}
    with pytest.raises(Refused, match=r"steps is '?0"):
        read(vary=["steps=10,0"])


def test_a_sheet_shows_all_choices_of_an_input(tmp_path: Path) -> None:
    varied = Varied(
        [Picture(image="a.png"), Picture(image="b.png")], [STEPS, SCALES], Params(images_per_input=2)
    )
    files = {}
    for index in range(20):
        files[index] = tmp_path / f"{index}.png"
        Image.new("RGB", (64, 48), (index, 0, 0)).save(files[index])
    (sheet,) = save_sheets(varied, files, tmp_path / "out", overwrite=False)
    assert sheet == tmp_path / "out/a-sheet.png", "not all of b is there"
    with Image.open(sheet) as drawn:
        width, height = drawn.size
        places = [
            (width - 128 + 64 * column, height - 144 + 48 * row) for row in range(3) for column in range(2)
        ]
        shown = [drawn.getpixel((x + 32, y + 24)) for x, y in places]
        assert shown == [(2 * number, 0, 0) for number in range(6)]
        captions = drawn.crop((width - 128, 0, width, height - 144))
        assert min(captions.convert("L").tobytes()) < 128, "what the columns are is written above"


def test_a_sheet_needs_something_that_varies() -> None:
    check_sheets(Varied([], [STEPS]))
    with pytest.raises(Refused, match="say what varies"):
        check_sheets([Picture(image="a.png")])
