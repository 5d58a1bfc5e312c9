"""What version 1 of the wire format wrote, as its code wrote it (``wire_v1``), is read as it was meant."""

import hashlib
from pathlib import Path

from img2img_shared.job import Input
from img2img_shared.wire import decode_inputs, decode_job, encode_inputs, encode_job, fingerprint

FOLDER = Path(__file__).parent / "wire_v1"
#: of the inputs in there, as version 1 noted it for the repeats of an idempotency key
DIGEST = "debe497a85f1c6f8df4c6fa327ab3872c3da7b3369caab3331628f1ac899604b"


def key(digit: str) -> str:
    return f"inputs/default/{digit * 64}"


def inputs() -> tuple[Input, ...]:
    return decode_inputs((FOLDER / "inputs.msgpack").read_bytes())


def test_a_jobs_mask_is_a_picture_of_all_its_inputs() -> None:
    job = decode_job((FOLDER / "job.msgpack").read_bytes())
    assert job.pictures == {"mask": key("3")}
    assert (job.params.prompt, job.params.scheduler, job.params.mask_blur_x) == ("a (cat:1.2)", "Karras", 8)
    assert decode_job((FOLDER / "job-without-mask.msgpack").read_bytes()).pictures == {}
    assert decode_job(encode_job(job)) == job


def test_an_inputs_picture_and_mask_have_roles_and_its_prompts_and_seed_are_parameters() -> None:
    assert inputs() == (
        Input(pictures={"image": key("0")}),
        Input(
            pictures={"image": key("1"), "mask": key("4")},
            params={"prompt": "rain", "negative_prompt": "sun", "seed": 7},
            name="one",
        ),
        Input(pictures={"image": key("2")}, params={"prompt": "", "seed": 0}, name="zwei ü"),
    )
    assert decode_inputs(encode_inputs(inputs())) == inputs()


def test_an_images_seeds_and_texts_are_those_that_version_1_gave_it() -> None:
    job = decode_job((FOLDER / "job.msgpack").read_bytes())
    items = [inputs()[job.output(index)[0]] for index in range(job.n)]
    seeds = [job.seeds(index, item) for index, item in enumerate(items)]
    assert seeds == [(5, 6), (6, 7), (7, 6), (8, 7), (0, 6), (1, 7)]
    assert [job.params_of(item).prompt for item in items[::2]] == ["a (cat:1.2)", "rain", ""]


def test_a_request_repeated_after_the_upgrade_is_the_same_request() -> None:
    digest = hashlib.sha256()
    for item in inputs():
        digest.update(fingerprint(item))
    assert digest.hexdigest() == DIGEST
