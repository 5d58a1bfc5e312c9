"""Where we are not A1111, as the README has it: each place is there, and does what is said."""

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from img2img_shared.control import ControlUnit
from img2img_shared.job import result_key
from img2img_shared.ledger.file_names import FileNames
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts
from img2img_worker.engine.engine import Engine
from img2img_worker.farm.hires_recipe import hires_fix
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.prompts.conditioning import conditioning
from img2img_worker.pictures.control.source import Originals, source
from img2img_worker.pictures.decode import decode_picture
from img2img_worker.pictures.layout import lay_out
from img2img_worker.pictures.mask import soft_mask
from img2img_worker.pictures.prepare import prepare
from img2img_worker.pictures.resize import resize
from img2img_worker.sampling.plan import compile_plan
from img2img_worker.sampling.plan_key import PlanKey
from tests.checkpoints import cached, sd1
from tests.integration.gateway import FakeWorker, Gateway, picture
from tests.unit.engine_toys import TilingFamily, ToyFamily, render

README = Path(__file__).parents[2] / "README.md"
SMALL = {"width": 64, "height": 64, "steps": 3, "prompt": "a cat"}

Send = Callable[..., httpx.Response]


@pytest.fixture(autouse=True)
def busy(fake_worker: FakeWorker) -> Iterator[FakeWorker]:
    with fake_worker:
        yield fake_worker


@pytest.fixture
def send(gateway: Gateway) -> Send:
    def sent(**fields: Any) -> httpx.Response:
        body = {"init_images": [base64.b64encode(picture()).decode()], **SMALL, **fields}
        return gateway.http.post("/sdapi/v1/img2img", json=body)

    return sent


def info_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = json.loads(answer.json()["info"])
    return found


def is_refused(answer: httpx.Response, field: str, *words: str) -> bool:
    told = answer.json()
    assert (answer.status_code, told["field"]) == (422, field)
    return all(word in told["detail"] for word in words)


def the_vaes_mean(checkpoint: Path, _: Send, __: FakeWorker) -> None:
    family = open_checkpoint(checkpoint)
    pixels = torch.full((1, 64, 64, 3), 90, dtype=torch.uint8)
    assert torch.equal(family.encode(pixels), family.encode(pixels))


def pictures_of_16_bits(_: Path, __: Send, ___: FakeWorker) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), 0x4000, np.uint16)).save(file, "PNG")
    grey = decode_picture(file.getvalue(), "image", 1000).convert("L")
    assert grey.getextrema() == (0x40, 0x40)


def pictures_of_several_sizes(_: Path, __: Send, ___: FakeWorker) -> None:
    mask = Image.radial_gradient("L").resize((60, 40))
    for size in ((60, 40), (90, 50), (60, 40)):
        opening = lay_out(Image.new("RGB", size), mask, Params()).opening
        assert opening is not None
        assert opening.tobytes() == resize(soft_mask(mask, Params()), 0, *size).tobytes()


def latent_upscale(_: Path, __: Send, ___: FakeWorker) -> None:
    picture, mask = Image.effect_noise((90, 50), 60).convert("RGB"), Image.new("L", (90, 50))
    mask.paste(255, (60, 0, 90, 50))
    params = Params(resize_mode=3, width=64, height=64, mask_blur_x=0, mask_blur_y=0, inpaint_full_res=False)
    pixels = prepare(picture, mask, params).pixels
    assert pixels.shape == (50, 90, 3)
    assert np.ptp(pixels[:, 80:]) < np.ptp(pixels[:, :20])


def faults_that_end_a_render(_: Path, __: Send, ___: FakeWorker) -> None:
    with Engine(ToyFamily()) as engine:
        plain, *others = (
            engine.submit(render(1, sampler_name=name, steps=10, denoising_strength=0.05)).result(60)
            for name in ("Euler", "DPM++ 2M SDE", "DPM++ 2M SDE Heun")
        )
    assert all(np.array_equal(plain, each) for each in others), "which ends at the model's answer"
    hires: dict[str, Any] = {"txt2img": True, "enable_hr": True, "denoising_strength": 0.5, "steps": 2}
    with Engine(ToyFamily(inpaints=True)) as engine:
        steps = hires_fix(replace(render(1, **hires), pixels=None), 8)
        (latent,) = (engine.submit(each).result(60) for each in next(steps))
        (second,) = steps.send([latent])
        assert engine.submit(second).result(60).shape == (128, 128, 3)
    first, other = ToyFamily(), ToyFamily(configuration="another")
    refined: dict[str, Any] = {"refiner_checkpoint": "other", "steps": 6, "refiner_switch_at": 0.5}
    with Engine(first, others={"other": other}.__getitem__, most_others=1) as engine:
        calls = []
        for number in (1, 2):  # two iterations, one after the other
            engine.submit(render(number, **refined)).result(60)
            calls.append(len(other.rows))
        assert calls[1] == 2 * calls[0] > 0, "the refiner has its share of both"
    latent = {"resize_mode": 3, "width": 64, "height": 64}
    with Engine(ToyFamily(inpaints=True)) as engine:
        for size in ((40, 64), (96, 80)):
            pixels = prepare(Image.new("RGB", size), None, Params.model_validate(latent)).pixels
            found = engine.submit(replace(render(1, resize_mode=3), pixels=pixels)).result(60)
            assert found.shape == (64, 64, 3)


def what_was_before_or_beside(_: Path, send: Send, worker: FakeWorker) -> None:
    iterations = _iterations_of_soft_inpainting(send, worker)
    assert iterations[0] == iterations[1], "but for the seed"
    family, euler = ToyFamily(), PlanKey.of(Params())
    rescaled = compile_plan(PlanKey.of(Params(sd_noise_schedule="Zero Terminal SNR")), family.noise_levels)
    assert rescaled.sigmas.tolist() == compile_plan(euler, family.noise_levels).sigmas.tolist()
    assert conditioning("<lora:x:1> a cat", "", Params(disable_extra_networks=True)).loras == ()
    tiling, other = TilingFamily(), ToyFamily(configuration="another")
    with Engine(tiling, others={"other": other}.__getitem__, most_others=1) as engine:
        for checkpoint in (None, "other", None):
            engine.submit(replace(render(1, steps=2, tiling=True), checkpoint=checkpoint)).result(60)
    assert tiling.tiled == [True, True]
    renders = [render(n, sampler_name="DPM adaptive", steps=6) for n in range(2)]
    with Engine(family, slots=1) as engine:
        alone = [engine.submit(each).result(60) for each in renders]
    with Engine(family, slots=2) as engine:
        beside = [future.result(60) for future in [engine.submit(each) for each in renders]]
    assert np.abs(np.array(alone).astype(int) - np.array(beside)).max() <= 1


def _iterations_of_soft_inpainting(send: Send, worker: FakeWorker) -> list[dict[str, Any]]:
    """What two iterations' jobs say, but for the seed."""
    mask = base64.b64encode(picture(3)).decode()
    scripts = {"soft inpainting": {"args": [True]}}
    answer = send(mask=mask, n_iter=2, seed=5, alwayson_scripts=scripts, save_images=True)
    assert answer.status_code == 200, answer.text
    found = [worker.ledger.job(each.id, worker.tenant) for each in worker.ledger.jobs(worker.tenant)]
    jobs = [job for job in found if job.params.soft_inpainting]
    assert sorted(job.params.seed for job in jobs) == [5, 6]
    return [job.model_dump(exclude={"params": {"seed", "subseed"}, "id": True}) for job in jobs]


def gpu_noise(_: Path, send: Send, __: FakeWorker) -> None:
    assert "RNG: NV" in info_of(send(override_settings={"randn_source": "GPU"}))["infotexts"][0]
    assert "RNG: CPU" in info_of(send())["infotexts"][0]


def unknown_names(_: Path, send: Send, __: FakeWorker) -> None:
    assert is_refused(send(sampler_name="k_euler_a"), "sampler_name", "'Euler a'")
    assert is_refused(send(scheduler="KARRAS"), "scheduler", "'Karras'")
    assert is_refused(send(styles=["none such"]), "styles")
    assert is_refused(send(script_name="none such"), "script_name")
    assert is_refused(send(override_settings={"none_such": 1}), "none_such")
    assert is_refused(send(prompt="<lora:x:0,8>"), "prompt")


def values_out_of_range(_: Path, send: Send, __: FakeWorker) -> None:
    for field, value in {"cfg_scale": 200, "steps": 0, "denoising_strength": 1.5, "width": 8}.items():
        assert is_refused(send(**{field: value}), field)
    assert info_of(send(cfg_scale=None))["sampler_name"] == "Euler"


def what_is_ignored(_: Path, send: Send, __: FakeWorker) -> None:
    override = {"sd_model_checkpoint": "none such"}
    info = info_of(send(nonesuch=1, image_cfg_scale=3, override_settings=override))
    told = {warning.partition(":")[0] for warning in info["warnings"]}
    assert told == {"nonesuch", "image_cfg_scale", "sd_model_checkpoint"}


def switched_off_scripts(_: Path, send: Send, __: FakeWorker) -> None:
    scripts = {"ControlNet": {"args": []}, "ADetailer": {"args": [False]}}
    assert "warnings" not in info_of(send(alwayson_scripts=scripts, script_name="None"))


def an_infotext(_: Path, send: Send, worker: FakeWorker) -> None:
    text = "a dog\nNegative prompt: fog\nSteps: 3, Sampler: Euler, CFG scale: 7, Seed: 5"
    assert "RNG: CPU" in info_of(send(infotext=text))["infotexts"][0]
    assert is_refused(send(override_settings={"enable_pnginfo": "no"}), "enable_pnginfo", "true or false")
    answer = send(override_settings={"enable_pnginfo": False}, batch_size=2, save_images=True)
    texts = info_of(answer)["infotexts"]
    assert len(texts) == 3
    assert [read_texts(base64.b64decode(each)) for each in answer.json()["images"]] == [{}, {}, {}]
    jobs = worker.ledger.jobs(worker.tenant)
    saved = [worker.store.get(result_key(jobs[0].id, index, "png")) for index in range(2)]
    assert [read_texts(each)["parameters"] for each in saved] == texts[1:]


def a_control_unit(_: Path, send: Send, worker: FakeWorker) -> None:
    FileNames(worker.client).say(worker.worker, {"control": ["edges [12345678]"]})
    for unit, words in (({"model": "depth"}, ("depth", "edges")), ({"module": "no_such"}, ("no_such",))):
        answer = send(alwayson_scripts={"controlnet": {"args": [{"enabled": True, **unit}]}})
        assert answer.status_code == 422
        assert all(word in answer.json()["detail"] for word in words)
    picture = Image.effect_noise((96, 64), 60).convert("RGB")
    originals = Originals(image=picture, mask=Image.new("L", picture.size))
    for padding in (8, 96):
        params = Params(inpaint_full_res=True, inpaint_full_res_padding=padding)
        seen = source(ControlUnit(module="canny", model="edges"), originals, params)[0]
        assert np.array_equal(seen, np.asarray(picture)), "all of it"


#: what the README calls each, and the proof
DEVIATIONS: dict[str, Callable[[Path, Send, FakeWorker], None]] = {
    "The VAE's mean": the_vaes_mean,
    "16-bit pictures": pictures_of_16_bits,
    "Pictures of several sizes": pictures_of_several_sizes,
    "Latent upscale": latent_upscale,
    "Faults that end a render in A1111": faults_that_end_a_render,
    "What was rendered before, or beside it": what_was_before_or_beside,
    "GPU noise": gpu_noise,
    "A control unit that cannot act": a_control_unit,
    "Unknown names": unknown_names,
    "Values out of range": values_out_of_range,
    "What A1111 ignores": what_is_ignored,
    "Switched-off scripts": switched_off_scripts,
    "An infotext": an_infotext,
}


def test_the_readme_names_every_place() -> None:
    section = README.read_text().split("### Where it is not A1111")[1].partition("\n## ")[0]
    assert re.findall(r"^- \*\*(.+?)\*\*", section, re.MULTILINE) == list(DEVIATIONS)


@pytest.mark.parametrize("place", DEVIATIONS)
def test_each_place_is_as_the_readme_has_it(
    place: str, send: Send, busy: FakeWorker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    DEVIATIONS[place](cached(tmp_path_factory, sd1), send, busy)
