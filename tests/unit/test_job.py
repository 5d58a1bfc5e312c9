"""Jobs: what each output is, and how jobs travel."""

import msgpack
import pytest

from img2img_shared.errors import WireError
from img2img_shared.job import Input, Job
from img2img_shared.params import Params
from img2img_shared.seeds import SEED_MAX, SEED_MIN
from img2img_shared.wire import VERSION, decode_inputs, decode_job, encode_inputs, encode_job

IMAGE = "inputs/" + "a" * 64


def job(n_inputs: int = 3, **params: object) -> Job:
    values = {"seed": 100, "subseed": 7, **params}
    return Job(id="job-00001", model="demo", params=Params.model_validate(values), n_inputs=n_inputs)


def test_outputs_are_the_inputs_in_order_each_so_often() -> None:
    assert job(images_per_input=2).n == 6
    assert [job(images_per_input=2).output(index) for index in range(4)] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_the_seed_counts_up_over_the_outputs() -> None:
    assert [job().seeds(index) for index in range(3)] == [(100, 7), (101, 8), (102, 9)]


def test_with_a_subseed_strength_the_subseed_counts_instead() -> None:
    varied = job(subseed_strength=0.3)
    assert [varied.seeds(index) for index in range(3)] == [(100, 7), (100, 8), (100, 9)]


def test_one_seed_for_all_if_asked() -> None:
    assert {job(seed_mode="same").seeds(index) for index in range(3)} == {(100, 7)}


def test_an_inputs_own_seed_counts_over_its_own_outputs() -> None:
    twice = job(images_per_input=2)
    assert [twice.seeds(index, Input(params={"seed": 5}))[0] for index in (2, 3)] == [5, 6]


def test_after_the_largest_seed_comes_the_least() -> None:
    assert [job(seed=SEED_MAX).seeds(index)[0] for index in range(2)] == [SEED_MAX, SEED_MIN]


def test_seeds_below_minus_1_are_used_as_they_are() -> None:
    assert [job(seed=-5).seeds(index)[0] for index in range(3)] == [-5, -4, -3]


def test_counting_passes_minus_1_as_a1111_does() -> None:
    assert [job(seed=-2).seeds(index)[0] for index in range(3)] == [-2, -1, 0]


def test_a_job_comes_back_as_it_was_written() -> None:
    written = job(prompt="a boat", sampler_name="Euler a")
    assert decode_job(encode_job(written)) == written


def test_a_job_of_an_older_producer_is_read_though_it_would_be_refused_now() -> None:
    written = msgpack.unpackb(encode_job(job(sampler_name="Euler a")))
    written["body"]["params"]["s_noise"] = 1.05  # which Euler a took once
    assert decode_job(msgpack.packb(written)).params.s_noise == 1.05


def test_inputs_come_back_as_they_were_written() -> None:
    own = {"prompt": "sea", "seed": 4}
    pictures = {"image": IMAGE, "mask": IMAGE, "control/0": IMAGE}
    page = (
        Input(pictures={"image": IMAGE}),
        Input(pictures=pictures, params=own, name="frame-1", folder="a/b"),
    )
    assert decode_inputs(encode_inputs(page)) == page


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"not msgpack",
        msgpack.packb([1, 2]),
        msgpack.packb({"v": VERSION, "kind": "job"}),
        msgpack.packb({"v": VERSION, "kind": "inputs", "body": []}),
        msgpack.packb({"v": VERSION, "kind": "job", "body": {"id": "x"}}),
        msgpack.packb({"v": VERSION, "kind": "job", "body": None}),
    ],
)
def test_what_is_no_job_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_job(data)


def test_what_a_newer_version_knows_is_named_with_the_way_out_and_nothing_is_suggested() -> None:
    message = msgpack.unpackb(encode_job(job()))
    message["body"]["params"]["save_everything"] = True
    with pytest.raises(WireError) as told:
        decode_job(msgpack.packb(message))
    why = "this version cannot read it (params.save_everything unknown here)"
    assert str(told.value) == f"job: {why}; update it to the one that wrote it"


def test_a_newer_version_is_refused_by_number_not_misread() -> None:
    message = msgpack.unpackb(encode_job(job()))
    newer = msgpack.packb({**message, "v": VERSION + 1})
    with pytest.raises(WireError, match=f"version {VERSION + 1}; this one reads {VERSION}"):
        decode_job(newer)


def test_a_store_key_from_user_text_is_refused() -> None:
    with pytest.raises(ValueError, match="image"):
        Input(pictures={"image": "../../etc/passwd"})
