"""The size of a result follows its picture where nobody says otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2img_producer.cli.sizes import with_size
from img2img_producer.parameters import merge_params
from img2img_shared.errors import Refused
from img2img_shared.own_params import check_own, with_own
from img2img_shared.param_groups.size_params import LEAST, MOST
from img2img_shared.params import Params
from img2img_worker.pictures.size import fitted_size


@pytest.mark.parametrize(
    ("size", "fit", "native_side", "result"),
    [
        ((512, 512), 0, 512, (512, 512)),
        ((4000, 3000), 0, 512, (592, 440)),
        ((3000, 4000), 0, 1024, (888, 1184)),
        ((301, 227), 0, 512, (304, 224)),  # smaller than what it was trained on: its own
        ((448, 320), 0, 128, (152, 112)),
        ((4000, 3000), 1024, 512, (1024, 768)),
        ((40, 30), 1024, 512, (1024, 768)),
        ((97, 71), 0, 128, (96, 72)),
        ((20, 10), 0, 512, (128, 64)),  # no side below 64
        ((20, 10), 64, 512, (128, 64)),
        ((30_000, 100), 0, 512, (2048, 64)),
    ],
)
def test_a_result_has_its_inputs_shape(
    size: tuple[int, int], fit: int, native_side: int, result: tuple[int, int]
) -> None:
    assert fitted_size(size, fit, native_side=native_side, multiple=8) == result


@given(
    st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
    st.sampled_from([0, 64, 500, 2048]),
    st.sampled_from([128, 512, 1024]),
    st.sampled_from([8, 16]),
)
def test_no_landscape_is_squashed_and_no_side_is_out_of_bounds(
    size: tuple[int, int], fit: int, native_side: int, multiple: int
) -> None:
    width, height = fitted_size(size, fit, native_side=native_side, multiple=multiple)
    assert min(width, height) >= LEAST
    assert max(width, height) <= MOST
    assert not width % multiple
    assert not height % multiple
    if max(size) / min(size) <= MOST / LEAST:
        # by as much as rounding takes
        assert abs(width - height * size[0] / size[1]) <= multiple / 2 * (1 + size[0] / size[1]) + 1e-6


def params(file: dict[str, object], options: dict[str, object], size: str | None = None) -> Params:
    return merge_params(*with_size(file, options, size))


def test_the_pictures_own_size_is_what_nobody_contradicts() -> None:
    assert params({"steps": 3}, {"seed": 1}).fit == 0
    assert params({"txt2img": True, "denoising_strength": 1}, {}).fit == 0


def test_a_size_is_exact_and_options_win_over_the_file() -> None:
    exact = params({"fit": 300}, {}, "768x512")
    assert (exact.width, exact.height, exact.fit) == (768, 512, None)
    exact = params({}, {"width": 640, "height": 384})
    assert (exact.width, exact.height, exact.fit) == (640, 384, None)
    assert params({"width": 640, "height": 384}, {"fit": 300}).fit == 300
    exact = params({"width": 640, "height": 384}, {})
    assert (exact.width, exact.height, exact.fit) == (640, 384, None)


@pytest.mark.parametrize(
    ("options", "size", "told"),
    [
        ({"width": 640}, None, "width is 640: give height too, or --fit 640"),
        ({"height": 640}, None, "height is 640: give width too"),
        ({"fit": 640}, "640x640", "size is '640x640': give --size or --fit, not both"),
        ({}, "large", "size is 'large': .* such as 768x512"),
        (
            {"fit": 640, "width": 640, "height": 640},
            None,
            "fit is 640: give fit, or width and height, not both",
        ),
        ({}, "770x512", "width is 770: give a multiple of 8"),
    ],
)
def test_two_sizes_and_half_a_size_are_refused(options: dict[str, object], size: str, told: str) -> None:
    with pytest.raises(Refused, match=told):
        params({}, options, size)


def test_an_inputs_own_size_stands_for_the_jobs() -> None:
    own, _ = check_own(Params(fit=0), {"width": 640, "height": 384})
    found = with_own(Params(fit=0), own)
    assert (found.width, found.height, found.fit) == (640, 384, None)
    own, _ = check_own(Params(width=640, height=384), {"fit": 300})
    assert with_own(Params(width=640, height=384), own).fit == 300
