"""Scripts that a request names: the renders that they make of it, and what is told of them."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import Img2ImgRequest
from img2img_gateway.sdapi.scripts.outpainting_mk2 import of_the_last_render
from img2img_gateway.sdapi.scripts.sd_upscale import SdUpscale
from img2img_shared.job import loop_name, result_key
from img2img_worker.pictures.picture_file import encode_picture
from tests.integration.gateway import Callers, FakeWorker, Gateway, picture

SMALL = {"width": 64, "height": 64, "steps": 4}
FILE = "Prompts from file or textbox"
MATRIX = "Prompt matrix"
UPSCALE = "SD upscale"
LOOP = "Loopback"
POOR = "Poor man's outpainting"
MK2 = "Outpainting mk2"
XYZ = "X/Y/Z plot"


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
    assert [info[name] for name in ("restore_faces", "sd_model_name", "sd_model_hash")] == [None] * 3
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
    assert "int()" not in info["warnings"][0]


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
    assert info["batch_size"] == 1
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
    assert info["all_prompts"] == ["a harbour"] * 3, "of its last batch of tiles"
    assert (info["seed"], info["all_seeds"], info["subseed"]) == (4, [5, 6, 7], -1), "each has one tile"


def test_several_loops_answer_with_what_each_made_last_and_the_first_renders_text(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    with Callers(fake_worker) as pool:
        # of which a script sees nothing in A1111: they are set for its renders alone
        options = {"override_settings": {"return_grid": False, "img2img_color_correction": True}}
        call = pool.submit(render, gateway, LOOP, [3, 0.3, "Lazy"], seed=4, n_iter=2, batch_size=3, **options)
        for claim in [fake_worker.await_claim() for _ in range(2)]:
            job = fake_worker.ledger.job(claim.job_id, "default")
            assert job.params.loopback_color_target == "each"
            seed, _ = job.seeds(0)
            for number in range(2):
                key = result_key(claim.job_id, claim.index, "png", loop_name(number))
                text = f"render {number} of the loop with seed {seed}"
                fake_worker.store.put(key, encode_picture(Image.new("RGB", (64, 64), "red"), "png", text))
            fake_worker.end(claim)
        pictures, info = answer_of(call.result())
    assert sorted(fake_worker.seeds) == [4, 7]
    assert [each.size for each in pictures] == [(128, 64), (64, 64), (64, 64)]
    assert all(each.getpixel((0, 0)) != (255, 0, 0) for each in pictures)
    assert (info["seed"], info["all_seeds"], info["index_of_first_image"]) == (4, [9], 0)
    assert (info["subseed"], info["batch_size"]) == (-1, 1)
    strengths = info["extra_generation_params"]["Denoising strength"], info["denoising_strength"]
    assert strengths == pytest.approx((0.3, 0.75 - 0.45 * (1 + 0.5**0.5))), (
        "of the last render, and of one more"
    )
    assert info["infotexts"] == 3 * ["render 0 of the loop with seed 4"]


def test_what_poor_mans_outpainting_does_not_look_at_is_told(gateway: Gateway, busy: FakeWorker) -> None:
    image = base64.b64encode(picture()).decode()
    pictures, info = answer_of(render(gateway, POOR, [], init_images=[image, image], mask=image))
    assert len(pictures) == 1
    assert [warning.partition(":")[0] for warning in info["warnings"]] == ["mask", "init_images"]


@pytest.mark.parametrize(
    ("side", "arguments", "tiles"), [(64, [32, 4, 0], 8), (64, [32, 4, 0, "left"], 2), (192, [16], 16)]
)
def test_poor_mans_outpainting_tells_the_last_tiles_seed(
    gateway: Gateway, busy: FakeWorker, side: int, arguments: list[Any], tiles: int
) -> None:
    image = base64.b64encode(picture(1, side)).decode()
    _, info = answer_of(render(gateway, POOR, arguments, init_images=[image], seed=4))
    assert (info["seed"], info["all_seeds"], info["subseed"]) == (4, [3 + tiles], -1)


def test_sd_upscale_tells_the_last_tiles_seeds() -> None:
    account = {"seed": 4, "subseed_strength": 0, "width": 64, "height": 64, "all_subseeds": [9, 10]}
    account |= {"all_prompts": ["a", "a"], "all_negative_prompts": ["b", "b"]}
    request = Img2ImgRequest.model_validate({"init_images": ["x"], "batch_size": 3, "n_iter": 2})
    run = SdUpscale(overlap=16).run(request, Leniency(strict=False))
    told = run.account_changes(account, (128, 192))  # three by four tiles in four lots, twice
    assert (told["all_seeds"], told["all_subseeds"]) == ([8, 9, 10], [9, 10, 11])


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
        (MK2, [None, 32, 8, []], {}, "script_args.sides"),
        (MK2, [None, 7], {}, "script_args.pixels"),
        (XYZ, [99, "1"], {}, "script_args.x_type"),
        (XYZ, ["Sampling", "1"], {}, "script_args.x_type"),
        (XYZ, [4, "many"], {}, "script_args.x_values"),
        (XYZ, [4, ""], {}, "script_args.x_values"),
        (XYZ, [4, "1-99999999999"], {}, "script_args.x_values"),
        (XYZ, [1, "1-50", None, 4, "1-50"], {}, "script_args"),
        (XYZ, [8, "a,b,c,d,e,f,g"], {}, "script_args.x_values"),
        (XYZ, [7, "zebra,lion"], {}, "script_args"),
        (XYZ, [4, "0,3"], {}, "steps"),
        (XYZ, [39, "", ["Enable"]], {}, "fp8_storage"),
        (XYZ, [40, "large"], {}, "script_args"),
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


def test_outpainting_mk2_is_the_farms_and_each_iteration_the_same(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    with Callers(fake_worker) as pool:
        arguments = [None, 32, 8, ["up", "right"], 0.5, 0.1]
        call = pool.submit(render, gateway, MK2, arguments, batch_size=2, n_iter=2, seed=4)
        claims = [fake_worker.await_claim() for _ in range(4)]
        params = fake_worker.ledger.job(claims[0].job_id, "default").params
        assert (params.outpaint, params.outpaint_method) == ("right, up", "noise")
        assert (params.outpaint_noise_exponent, params.outpaint_color_variation) == (0.5, 0.1)
        for claim in claims:
            fake_worker.end(claim)
        pictures, info = answer_of(call.result())
    assert sorted(fake_worker.seeds) == [4, 4, 5, 5]
    assert [each.size for each in pictures] == [(128, 128), *[(64, 64)] * 4]
    assert (info["all_seeds"], info["index_of_first_image"]) == ([4, 5], 0)


@pytest.mark.parametrize(
    ("sides", "asked", "grown", "told"),
    [
        ("left, up", (96, 96), (128, 128), (128, 96)),
        ("left, up", (64, 64), (128, 128), (128, 64)),
        ("left", (64, 64), (128, 96), (64, 128)),
    ],
)
def test_outpainting_mk2_tells_the_last_render_as_a1111_does(
    sides: str, asked: tuple[int, int], grown: tuple[int, int], told: tuple[int, int]
) -> None:
    account = {"width": asked[0], "height": asked[1], "extra_generation_params": {"Mask blur": 32}}
    found = of_the_last_render(sides, 8, account, grown)
    assert (found["width"], found["height"]) == told
    assert found["extra_generation_params"]["Mask blur"] == (32 if "up" in sides else None)


def plot(*axes: tuple[int | str, str], **settings: bool | int) -> list[Any]:
    """Arguments: axes as (type, values), and settings by their names."""
    arguments: list[Any] = []
    for axis in (*axes, *[(0, "")] * (3 - len(axes))):
        arguments += [*axis, []]
    names = ("legend", "pictures", "grids", "keep", "vary_x", "vary_y", "vary_z", "margin", "texts")
    return [*arguments, *(settings.get(name, False) for name in names)]


def test_a_plot_renders_each_cell_and_lays_them_out(gateway: Gateway, busy: FakeWorker) -> None:
    arguments = plot((1, "3-5"), ("Steps", "2-6 (+4)"), (5, "4,7.5"), pictures=True, grids=True)
    pictures, info = answer_of(render(gateway, XYZ, arguments))
    assert sorted(busy.seeds) == [3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5]
    assert [each.size for each in pictures] == [(384, 128), (192, 128), (192, 128), *[(64, 64)] * 12]
    whole, first, second, *cells = pictures
    assert [cell.getpixel((0, 0)) for cell in cells] == [(3, 0, 0), (4, 0, 0), (5, 0, 0)] * 4
    expected = [(3 + i % 3, 0, 0, 255) for i in range(6)]
    assert [whole.getpixel((32 + 64 * i, 96)) for i in range(6)] == expected
    assert first.getpixel((0, 0)) == second.getpixel((0, 0)) == (3, 0, 0, 255)
    texts, told = info["infotexts"], ", Script: X/Y/Z plot, X Type: Seed, X Values: 3-5, Fixed X Values: "
    assert [told in text for text in texts] == [True] * 3 + [False] * 12
    assert ["Z Type: CFG Scale, Z Values: " in text for text in texts[:3]] == [True, False, False]
    assert "CFG scale: 7.5" in texts[2]
    assert "Steps: 6" in texts[-1]
    assert info["all_seeds"] == [3, 3, *[3, 4, 5] * 4]
    assert (info["steps"], info["cfg_scale"], info["index_of_first_image"]) == (2, 4.0, 1)
    assert not {"Script", "X Type", "Z Values"} & info["extra_generation_params"].keys()


def test_a_plot_may_show_its_sheet_alone_with_captions(gateway: Gateway, busy: FakeWorker) -> None:
    arguments = plot((7, "harbour,forest"), legend=True, margin=10, vary_x=True)
    pictures, info = answer_of(
        render(gateway, XYZ, arguments, seed=8, subseed=3, batch_size=2, negative_prompt="# x\nfog")
    )
    (sheet,) = pictures
    assert sheet.width == 64 + 10 + 64
    assert sheet.height > 64
    assert sorted(busy.seeds) == [8, 9]
    assert info["all_prompts"] == ["a harbour", "a forest"]
    # of as many pictures as A1111 renders for a cell
    assert (info["batch_size"], info["all_subseeds"]) == (2, [3, 4])
    assert info["all_negative_prompts"] == ["\nfog"] * 2
    assert info["warnings"][0].startswith("batch_size, n_iter")


def test_a_plot_tells_prompts_as_they_were_sent(gateway: Gateway, busy: FakeWorker) -> None:
    _, info = answer_of(render(gateway, XYZ, plot((7, "cat,dog"), grids=True), prompt="# mine\na cat"))
    assert info["all_prompts"] == ["# mine\na cat", "# mine\na cat", "# mine\na dog"]
    assert info["prompt"] == "# mine\na cat"


def test_a_plot_takes_choices_from_lists_or_texts(gateway: Gateway, busy: FakeWorker) -> None:
    chosen = [9, "Heun", ["Euler", "DDIM"]]
    _, info = answer_of(render(gateway, XYZ, chosen))
    assert ["Sampler: DDIM" in text for text in info["infotexts"]] == [False, False, True]
    _, info = answer_of(render(gateway, XYZ, plot((9, "Heun"), texts=True)))
    assert "X Values: Heun" in info["infotexts"][0]


@pytest.mark.parametrize(
    ("axis", "values", "expected"),
    [
        ("Prompt order", "harbour,a", ["a harbour", "harbour a"]),
        ("Size", "72x64", ["a harbour"]),
        ("Clip skip", "1,2", ["a harbour"] * 2),
        ("Denoising", "0.2-0.6 [3]", ["a harbour"] * 3),
    ],
)
def test_axes_of_all_kinds_are_known(
    gateway: Gateway, busy: FakeWorker, axis: str, values: str, expected: list[str]
) -> None:
    _, info = answer_of(render(gateway, XYZ, plot((axis, values), texts=True, pictures=True)))
    assert sorted(info["all_prompts"]) == sorted(expected)


def test_a_plot_of_txt2img_has_its_axes(gateway: Gateway, busy: FakeWorker) -> None:
    body = {**SMALL, "script_name": XYZ, "script_args": plot((6, "3,5"), pictures=True)}
    _, info = answer_of(gateway.http.post("/sdapi/v1/txt2img", json=body))
    assert ["CFG scale: 5.0" in text for text in info["infotexts"]] == [False, False, True]


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
