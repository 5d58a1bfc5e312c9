"""The drawn world that the demo checkpoint is trained on, and the samples drawn from it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from transformers import CLIPTokenizer

from tools.demo_model import captions, samples, tokens
from tools.demo_model.dataset import FIRST_UNSEEN, scenes_of
from tools.demo_model.labels import PLACES, SEASONS, STYLES, TIMES, Scene
from tools.demo_model.places import lay_out
from tools.demo_model.scenes import draw

SAMPLES = Path(__file__).parents[2] / "samples"


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
    return picture


def scene(**labels: str) -> Scene:
    look = {
        "place": "village",
        "time": "day",
        "season": "summer",
        "weather": "clear",
        "style": "flat",
        **labels,
    }
    return Scene(layout=5, **look)


def pixels(drawn: Scene, width: int = 64, height: int = 64) -> np.ndarray:
    return np.asarray(draw(drawn, width, height, fineness=1)).astype(float)


@pytest.mark.parametrize("style", STYLES)
def test_a_scene_is_drawn_the_same_each_time(style: str) -> None:
    assert np.array_equal(pixels(scene(style=style)), pixels(scene(style=style)))


@pytest.mark.parametrize("place", PLACES)
def test_every_place_can_be_drawn_at_odd_sizes(place: str) -> None:
    picture = draw(scene(place=place), 71, 45)
    assert picture.size == (71, 45)
    assert np.asarray(picture).std() > 10


@pytest.mark.parametrize(("label", "values"), [("time", TIMES), ("season", SEASONS), ("style", STYLES)])
def test_every_value_of_a_label_changes_the_picture(label: str, values: tuple[str, ...]) -> None:
    drawn = [pixels(scene(**{label: value})) for value in values]
    for k, one in enumerate(drawn):
        for other in drawn[k + 1 :]:
            assert np.abs(one - other).mean() > 4


def test_night_is_darker_than_day_and_winter_paler_than_summer() -> None:
    assert pixels(scene(time="night")).mean() < 0.6 * pixels(scene(time="day")).mean()
    ground = slice(48, 64)
    winter, summer = pixels(scene(season="winter"))[ground], pixels(scene(season="summer"))[ground]
    assert winter.mean() > summer.mean() + 50


def test_another_look_of_a_view_keeps_its_layout() -> None:
    first, second, third = scenes_of(3)
    assert first.layout == second.layout == third.layout
    assert (first.place, first.layout) != (
        scenes_of(FIRST_UNSEEN)[0].place,
        scenes_of(FIRST_UNSEEN)[0].layout,
    )
    assert lay_out(first.place, first.layout, 1.0) == lay_out(second.place, second.layout, 1.0)


def test_captions_vary_and_name_what_they_must() -> None:
    drawn = scene(time="night", season="winter", style="ink")
    rng = np.random.default_rng(0)
    written = {captions.caption(drawn, frozenset({"church"}), rng) for _ in range(200)}
    assert len(written) > 150
    assert sum(any(word in line for word in ("night", "moon", "dark")) for line in written) > 150
    full = captions.full_caption(drawn)
    assert "at night" in full
    assert "in winter" in full
    assert "ink" in full


def test_every_word_of_a_caption_is_one_token_and_any_text_can_be_written(tmp_path: Path) -> None:
    tokens.write_tokenizer(tmp_path, captions.words())
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    for word in captions.words():
        assert len(tokenizer(word).input_ids) == 3, word
    strange = "zebras à la crème, 42!"
    assert tokenizer.decode(tokenizer(strange).input_ids, skip_special_tokens=True).replace(" ", "") == (
        strange.replace(" ", "")
    )
    padded = tokenizer("a lake", padding="max_length").input_ids
    assert len(padded) == 77
    assert padded[-1] == tokenizer.eos_token_id


def test_the_samples_that_ship_are_what_the_script_draws(tmp_path: Path) -> None:
    written = samples.write(tmp_path)
    shipped = sorted(path.relative_to(SAMPLES) for path in SAMPLES.rglob("*.*"))
    assert sorted(path.relative_to(tmp_path) for path in written) == shipped
    for path in written:
        drawn, kept = opened(path), opened(SAMPLES / path.relative_to(tmp_path))
        assert (drawn.size, drawn.mode, dict(drawn.getexif())) == (kept.size, kept.mode, dict(kept.getexif()))
        difference = np.abs(np.asarray(drawn.convert("RGBA")).astype(int) - np.asarray(kept.convert("RGBA")))
        assert difference.mean() < 1, path


def test_the_samples_are_of_many_kinds() -> None:
    pictures = {path.stem: opened(path) for path in SAMPLES.glob("*.*")}
    assert {"RGB", "RGBA", "P"} <= {picture.mode for picture in pictures.values()}
    assert any(
        picture.getexif().get(samples.ORIENTATION) == samples.CLOCKWISE for picture in pictures.values()
    )
    assert any(width % 2 and height % 2 for width, height in (picture.size for picture in pictures.values()))
    for path in (SAMPLES / "masks").iterdir():
        assert opened(path).size == ImageOps.exif_transpose(pictures[path.stem]).size
