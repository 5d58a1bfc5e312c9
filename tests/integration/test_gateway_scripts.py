"""Scripts that a request names: the renders that they make of it, and what is told of them."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.integration.gateway import Callers, FakeWorker, Gateway, picture

SMALL = {"width": 64, "height": 64, "steps": 4}
FILE = "Prompts from file or textbox"
MATRIX = "Prompt matrix"
UPSCALE = "SD upscale"
LOOP = "Loopback"
POOR = "Poor man's outpainting"


@pytest.fixture
def busy(fake_worker: FakeWorker) -> Iterator[FakeWorker]:
    with fake_worker:
        yield fake_worker


def render(gateway: Gateway, script: str, arguments: list[Any], **fields: Any) -> httpx.Response:
    body = {"init_images": [base64.b64encode(picture()).decode()], "prompt": "a harbour", **SMALL, **fields}
    return gateway.http.post(
        "/sdapi/v1/img2img", json={**body, "script_name": script, "script_args": arguments}
    )


def answer_of(response: httpx.Response) -> tuple[list[Image.Image], dict[str, Any]]:
    assert response.status_code == 200, response.text
    files = [io.BytesIO(base64.b64decode(each)) for each in response.json()["images"]]
    return list(map(Image.open, files)), json.loads(response.json()["info"])


LINES = """a boat

--prompt "a tree" by a lake --steps 3 --cfg_scale 3
--negative_prompt sky --seed 5 --width 72 --n_iter 2
"""


def test_each_line_of_a_file_is_a_render_of_its_own(gateway: Gateway, busy: FakeWorker) -> None:
    pictures, info = answer_of(
        render(gateway, FILE, [False, False, "start", LINES], seed=9, negative_prompt="blurry")
    )
    heads = [text.partition(", Sampler")[0] for text in info["infotexts"]]
    assert heads == [
        "a boat a harbour\nNegative prompt: blurry\nSteps: 4",
        "a tree by a lake a harbour\nNegative prompt: blurry\nSteps: 3",
        "a harbour\nNegative prompt: sky blurry\nSteps: 4",
        "a harbour\nNegative prompt: sky blurry\nSteps: 4",
    ]
    assert [each.size for each in pictures] == [(64, 64), (64, 64), (72, 64), (72, 64)]
    assert "CFG scale: 3.0" in info["infotexts"][1]
    assert sorted(busy.seeds) == [5, 6, 9, 9]
    assert (info["seed"], info["all_seeds"], info["subseed"]) == (9, [9], -1)
    assert info["all_prompts"] == ["a boat a harbour", "a tree by a lake a harbour", "a harbour", "a harbour"]
    assert (info["width"], info["steps"], info["index_of_first_image"]) == (64, 4, 0)
    assert info["all_negative_prompts"] == ["blurry"]
    assert "warnings" not in info


def test_a_file_may_count_its_seed_up_and_come_behind_the_prompt(gateway: Gateway, busy: FakeWorker) -> None:
    _, info = answer_of(render(gateway, FILE.lower(), [True, False, "end", "a\nb"], seed=7, batch_size=2))
    assert sorted(busy.seeds) == [7, 8, 9, 10]
    assert info["all_prompts"] == ["a harbour a"] * 2 + ["a harbour b"] * 2
    assert info["seed"] == 11, "A1111 tells the one that would come next"


@pytest.mark.parametrize(("same", "different"), [(True, 1), (False, 2)])
def test_lines_share_a_drawn_seed_where_that_is_asked(
    gateway: Gateway, busy: FakeWorker, same: bool, different: int
) -> None:
    _, info = answer_of(render(gateway, FILE, [False, same, "start", "a\nb"]))
    assert len(set(busy.seeds)) == different
    assert (info["seed"] == -1) is not same


@pytest.mark.parametrize("line", ["a -- b", "--steps", "--nonesuch 1", "--steps many", '--prompt "open'])
def test_a_line_that_is_no_command_is_a_prompt(gateway: Gateway, busy: FakeWorker, line: str) -> None:
    _, info = answer_of(render(gateway, FILE, [False, False, "start", line]))
    assert info["all_prompts"] == [f"{line} a harbour"]
    assert "taken for a prompt" in info["warnings"][0]


def test_txt2img_takes_a_file_too(gateway: Gateway, busy: FakeWorker) -> None:
    body = {**SMALL, "script_name": FILE, "script_args": [False, False, "start", "a\n--prompt b --steps 2"]}
    _, info = answer_of(gateway.http.post("/sdapi/v1/txt2img", json=body))
    assert info["all_prompts"] == ["a", "b"]


def test_a_matrix_renders_every_choice_and_a_sheet_before_them(gateway: Gateway, busy: FakeWorker) -> None:
    pictures, info = answer_of(
        render(gateway, MATRIX, [False, True, "positive", "comma", 6], prompt="a|b ,|c", seed=4, n_iter=3)
    )
    prompts = ["a", "a, b ", "a, c", "a, b , c"]
    assert info["all_prompts"] == prompts
    assert (info["all_seeds"], info["index_of_first_image"]) == ([4, 5, 6, 7], 1)
    assert [text.partition("\n")[0] for text in info["infotexts"]] == ["a", *prompts]
    sheet, *rendered = pictures
    assert len(rendered) == 4
    assert "parameters" not in sheet.info
    left, top = sheet.width - 2 * 64 - 6, sheet.height - 2 * 64 - 6
    assert left == 48
    for number, each in enumerate(rendered):
        place = (left + number % 2 * 70 + 32, top + number // 2 * 70 + 32)
        assert sheet.getpixel(place) == each.convert("RGB").getpixel((32, 32)) == (4 + number, 0, 0)
    assert sheet.getpixel((left + 66, top + 32)) == (255, 255, 255)
    captions = sheet.crop((0, 0, sheet.width, top)).convert("L")
    assert sum(captions.histogram()[:128]), "they are drawn"


def test_a_matrix_may_vary_the_negative_prompt_and_end_with_what_stays(
    gateway: Gateway, busy: FakeWorker
) -> None:
    arguments = [True, False, "negative", "space"]
    _, info = answer_of(render(gateway, MATRIX, arguments, negative_prompt="a|b", seed=4))
    assert info["all_negative_prompts"] == ["a", "b a"]
    assert info["all_seeds"] == [4, 4]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ("left, right, up, down", 128, 4, 0)),
        ([32, 8, 1, ["down", "left"]], ("left, down", 32, 8, 1)),
        ([32, 8, "latent noise", "right"], ("right", 32, 8, 0)),
    ],
)
def test_poor_mans_outpainting_is_the_farms(
    gateway: Gateway, fake_worker: FakeWorker, arguments: list[Any], expected: tuple[Any, ...]
) -> None:
    with Callers(fake_worker) as pool:
        call = pool.submit(render, gateway, POOR, arguments, batch_size=3, n_iter=2, mask_round=False)
        claim = fake_worker.await_claim()
        job = fake_worker.ledger.job(claim.job_id, "default")
        told = job.params.outpaint, job.params.outpaint_pixels, job.params.outpaint_mask_blur
        assert (*told, job.params.inpainting_fill) == expected
        assert (job.n, job.params.mask_round) == (1, False)
        fake_worker.end(claim)
        pictures, info = answer_of(call.result())
    assert len(pictures) == 1
    assert "warnings" not in info


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (64, "None", 2.0)),
        ([None, 16, "lanczos", 4], (16, "Lanczos", 4)),
        (["", 32, 2, 1.5], (32, "Nearest", 1.5)),
    ],
)
def test_sd_upscale_is_the_farms(
    gateway: Gateway, fake_worker: FakeWorker, arguments: list[Any], expected: tuple[Any, ...]
) -> None:
    with Callers(fake_worker) as pool:
        sizes = {"width": 128, "height": 128}
        call = pool.submit(render, gateway, UPSCALE, arguments, batch_size=3, n_iter=2, seed=4, **sizes)
        claims = [fake_worker.await_claim() for _ in range(2)]
        params = fake_worker.ledger.job(claims[0].job_id, "default").params
        told = params.sd_upscale_overlap, params.sd_upscale_upscaler, params.sd_upscale_factor
        assert told == expected
        assert params.sd_upscale_batch == 3
        for claim in claims:
            fake_worker.end(claim)
        pictures, info = answer_of(call.result())
    assert len(pictures) == 2
    assert sorted(fake_worker.seeds) == [4, 5]
    first, second = info["infotexts"]
    assert first == second, "A1111 tells the first one's of all"


def test_several_loops_answer_with_what_each_made_last(gateway: Gateway, busy: FakeWorker) -> None:
    pictures, info = answer_of(render(gateway, LOOP, [3, 0.3, "Lazy"], seed=4, n_iter=2, batch_size=3))
    assert sorted(busy.seeds) == [4, 7]
    assert [each.size for each in pictures] == [(128, 64), (64, 64), (64, 64)]
    assert (info["seed"], info["all_seeds"], info["index_of_first_image"]) == (4, [9], 0)
    assert len(set(info["infotexts"])) == 1


def test_what_poor_mans_outpainting_does_not_look_at_is_told(gateway: Gateway, busy: FakeWorker) -> None:
    image = base64.b64encode(picture()).decode()
    pictures, info = answer_of(render(gateway, POOR, [], init_images=[image, image], mask=image))
    assert len(pictures) == 1
    assert [warning.partition(":")[0] for warning in info["warnings"]] == ["mask", "init_images"]


@pytest.mark.parametrize(
    ("script", "arguments", "fields", "named"),
    [
        (FILE, [], {}, "script_args.text"),
        (FILE, [False, False, "middle", "a"], {}, "script_args.position"),
        (FILE, [False, False, "start", "--steps 0"], {}, "steps"),
        (FILE, [False, False, "start", "--batch_size 101"], {}, "batch_size"),
        (FILE, [False, False, "start", "--sampler_name Nonesuch"], {}, "sampler_name"),
        (FILE, [False, False, "start", "a\n" * 1001], {}, "script_args.text"),
        (FILE, [False, False, "start", "--n_iter 60 --batch_size 9\n" * 2], {}, "script_args"),
        (MATRIX, [False, False, "neutral"], {}, "script_args.prompt_type"),
        (MATRIX, [False, False, "positive", "comma", 501], {}, "script_args.margin_size"),
        (MATRIX, [], {"prompt": "a" + "|b" * 10}, "prompt"),
        (MATRIX, [], {"prompt": "a" + "|b" * 1000}, "prompt"),
        (POOR, [32, 4, 4], {}, "script_args.content"),
        (POOR, [32, 4, 0, "nowhere"], {}, "script_args.sides"),
        (LOOP, [0], {}, "script_args.loops"),
        (LOOP, [2, 0.5, "Linear", "CLIP"], {}, "script_args.interrogation"),
        (UPSCALE, [None, 16, 7], {}, "script_args.upscaler"),
        (UPSCALE, [None, 64], {}, "sd_upscale_overlap"),
        (UPSCALE, [None, 16, "None", 9], {}, "script_args.factor"),
        ("nosuch", [], {}, "script_name"),
    ],
)
def test_what_a_script_cannot_do_is_refused(
    gateway: Gateway, busy: FakeWorker, script: str, arguments: list[Any], fields: Any, named: str
) -> None:
    response = render(gateway, script, arguments, **fields)
    assert response.status_code == 422, response.text
    assert response.json()["field"] == named
    assert not busy.seeds


def test_arguments_beyond_those_of_a_script_are_set_aside(gateway: Gateway, busy: FakeWorker) -> None:
    _, info = answer_of(render(gateway, FILE, [False, False, "start", "a", 1, 2]))
    assert len(info["warnings"]) == 2


def test_scripts_are_listed_with_a1111s_labels(gateway: Gateway) -> None:
    found = gateway.http.get("/sdapi/v1/script-info").json()
    matrices = [each for each in found if each["name"] == "prompt matrix"]
    assert [(each["is_img2img"], each["is_alwayson"]) for each in matrices] == [(False, False), (True, False)]
    assert matrices[0]["args"][2:] == [
        {
            **dict.fromkeys(("minimum", "maximum", "step")),
            "label": "Select prompt",
            "value": "positive",
            "choices": ["positive", "negative"],
        },
        {
            **dict.fromkeys(("minimum", "maximum", "step")),
            "label": "Select joining char",
            "value": "comma",
            "choices": ["comma", "space"],
        },
        {
            "label": "Grid margins (px)",
            "value": 0,
            "minimum": 0,
            "maximum": 500,
            "step": 2,
            "choices": None,
        },
    ]
    names = gateway.http.get("/sdapi/v1/scripts").json()
    assert {"prompt matrix", "prompts from file or textbox"} <= {*names["txt2img"]} & {*names["img2img"]}
