"""Workers of one model with different files beside it: an image goes to one that has what it names."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from img2img_producer import Picture
from img2img_shared.errors import Refused
from img2img_shared.ledger.file_names import FileNames
from img2img_shared.ledger.inversion_names import InversionNames
from img2img_shared.picture_texts import read_texts
from tests import upscalers
from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import FaultyFarm, picture
from tests.unit.control_files import control_net, write_original
from tests.unit.loras import UNET, write_kohya


@pytest.fixture
def one_of_three(farm: FaultyFarm) -> FaultyFarm:
    """Only the first of the workers has a textual inversion, a LoRA, an upscaler and a control network."""
    folder, checkpoint = farm.folder / "models", Path(farm.model)
    for name in ("embeddings", "Lora", "ESRGAN", "ControlNet"):
        (folder / name).mkdir(parents=True)
    vectors = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    save_file({"emb_params": vectors}, folder / "embeddings" / "gold.safetensors")
    unet = UNet2DConditionModel.from_pretrained(checkpoint, subfolder="unet")
    write_kohya(folder / "Lora" / "ink.safetensors", unet, UNET, seed=1)
    upscalers.save(folder / "ESRGAN", "tiny.pth", upscalers.esrgan())
    write_original(control_net(checkpoint, seed=1), folder / "ControlNet" / "tiny_canny.safetensors")
    farm.worker(environment={"IMG2IMG_MODELS_DIR": str(folder)})
    redis = farm.producer._service.redis
    eventually("it says what it has", lambda: InversionNames(redis).usable(farm.model))
    (worker,) = farm.producer.workers()
    eventually("all of it", lambda: FileNames(redis).of([worker.info.id], "control"))
    for _ in range(2):
        farm.worker(environment={"IMG2IMG_MODELS_DIR": str(farm.folder / "none")})
    eventually("all serve", lambda: len(farm.producer.workers()) == 3)
    return farm


def infotexts(farm: FaultyFarm, job: str) -> list[str]:
    return [read_texts(data)["parameters"] for _, data in sorted(farm.pictures(job).items())]


def test_images_get_to_the_worker_that_has_what_they_name(one_of_three: FaultyFarm, account: Account) -> None:
    farm = one_of_three
    account.fault()
    jobs = [
        farm.submit(6, prompt="a (gold:1.2) cat"),
        farm.submit(6, prompt="a cat <lora:ink:1>"),
        farm.submit(6, upscaler_for_img2img="tiny", width=128, height=128),
        farm.submit(6, control=[{"model": "canny", "module": "none"}]),
    ]
    account.settle(farm, "2 of 3 workers without what images name", *jobs)
    assert all('TI hashes: "gold: ' in text for text in infotexts(farm, jobs[0]))
    assert all('Lora hashes: "ink: ' in text for text in infotexts(farm, jobs[1]))


def test_of_a_job_of_all_kinds_the_others_do_their_part(one_of_three: FaultyFarm, account: Account) -> None:
    farm = one_of_three
    account.fault()
    prompts = ["a gold cat" if number % 4 == 0 else "a cat" for number in range(40)]
    own = [Picture(image=picture(number), prompt=prompt) for number, prompt in enumerate(prompts)]
    job = farm.producer.submit(own, model=farm.model, steps=4, width=64, height=64, seed=1)
    account.settle(farm, "2 of 3 workers without what some images name", job)
    assert [('TI hashes: "gold: ' in text) for text in infotexts(farm, job)] == [
        "gold" in each for each in prompts
    ]


def test_what_nobody_has_is_a_reason_to_fail(farm: FaultyFarm) -> None:
    job = farm.submit(3, prompt="<lora:lost:1>")  # while no worker lives that could tell
    for _ in range(2):
        farm.worker(environment={"IMG2IMG_MODELS_DIR": str(farm.folder / "none")})
    farm.done(job)
    reasons = [*farm.reasons(job).values()]
    assert [reason.partition(";")[0] for reason in reasons] == 3 * ["lora is 'lost': unknown LoRA"]


def test_what_one_image_was_refused_for_the_next_of_its_job_are_before_they_are_begun(
    farm: FaultyFarm,
) -> None:
    begun = farm.folder / "begun"
    job = farm.submit(40, prompt="<lora:lost:1>")
    farm.worker(environment={"IMG2IMG_MODELS_DIR": str(farm.folder / "none")}, note_begun={"log": str(begun)})
    farm.done(job)
    assert len(farm.reasons(job)) == 40
    assert 0 < len(begun.read_text().splitlines()) < 40


def test_what_nobody_has_is_refused_where_workers_live(one_of_three: FaultyFarm) -> None:
    farm = one_of_three
    redis = farm.producer._service.redis
    ids = [each.info.id for each in farm.producer.workers()]
    eventually("all say what they have", lambda: None not in FileNames(redis).of_each(ids, "control"))
    with pytest.raises(Refused, match="unknown LoRA; use ink; to give the workers yours"):
        farm.submit(2, prompt="<lora:lost:1>")
