"""Files of weights by their names and hashes, and which of them a job means."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file

from img2img_shared.control import ControlUnit
from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.pushed_models.kind import kind_of
from img2img_shared.pushed_models.model_objects import ModelObjects
from img2img_shared.pushed_models.pins import Pins
from img2img_shared.pushed_models.pushed_model import (
    ModelFile,
    ModelKind,
    NewModel,
    PushedModel,
    find_pushed,
)
from img2img_shared.pushed_models.upload import hash_of, send
from img2img_shared.store import Store
from img2img_worker.models.checkpoints.loading import open_checkpoint
from img2img_worker.models.families.stable_diffusion import StableDiffusion
from tests import upscalers
from tests.checkpoints import cached, sd1, sdxl
from tests.original import write_original
from tests.unit import control_files, loras


def pushed(
    name: str, kind: ModelKind, digit: str, at: float = 0.0, ending: Any = ".safetensors"
) -> PushedModel:
    model = name if kind == "checkpoint" else ""
    facts: dict[str, Any] = {"sha256": digit * 64, "size": 1, "part": 1, "pushed": at, "model": model}
    return PushedModel(kind=kind, name=name, ending=ending, **facts)


def test_a_name_means_what_was_pushed_last_and_a_hash_always_the_same() -> None:
    old, new = pushed("cat", "lora", "a", 1), pushed("cat", "lora", "b", 2)
    known = [new, old, pushed("cat", "embedding", "c", 3)]
    assert find_pushed("cat", "lora", known) is new
    for wanted in ("a" * 10, "a" * 64, "cat [aaaaaaaaaa]", "cat.safetensors [aaaaaaaaaa]"):
        assert find_pushed(wanted, "lora", known) is old
    for wanted in ("ca", "Cat", "a" * 9, "d" * 10):
        assert find_pushed(wanted, "lora", known) is None


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "a:b", "<b>", "a\x1b", "", "end "])
def test_a_name_is_no_path_and_no_tag(name: str) -> None:
    with pytest.raises(Refused, match="name is"):
        NewModel.of(kind="lora", name=name, ending=".pt", sha256="a" * 64, size=1)


def test_a_job_pins_all_that_its_parameters_name() -> None:
    names: dict[str, ModelKind] = {
        "ink": "lora",
        "old": "hypernetwork",
        "mse": "vae",
        "control_v11p_sd15_canny": "control",
        "RealESRGAN_x4plus": "upscaler",
        "4x_detail": "upscaler",
        "bad-hands": "embedding",
        "refiner": "checkpoint",
        "other": "lora",
    }
    known = [pushed(name, kind, format(number, "x")) for number, (name, kind) in enumerate(names.items())]
    hashes = dict(zip(names, (each.sha256 for each in known), strict=True))
    pins = Pins(known, "refiner")
    pins.of(
        Params(
            prompt="a cat <lora:ink:0.8> <hypernet:old:1>\n# <lora:other:1>",
            negative_prompt="Bad-Hands, blurry",
            vae="mse.safetensors",
            control=(ControlUnit(module="canny", model="canny"),),
            upscaler_for_img2img="R-ESRGAN 4x+",
        )
    )
    assert pins.files == {
        "checkpoint/refiner": hashes["refiner"],
        "lora/ink": hashes["ink"],
        "hypernetwork/old": hashes["old"],
        "vae/mse.safetensors": hashes["mse"],
        "control/canny": hashes["control_v11p_sd15_canny"],
        "upscaler/R-ESRGAN 4x+": hashes["RealESRGAN_x4plus"],
        "embedding/bad-hands": hashes["bad-hands"],
    }
    own = pins.of_own(Params(), {"prompt": "<lora:other:1>", "refiner_checkpoint": "f" * 10})
    assert own == {"prompt": "<lora:other:1>", "refiner_checkpoint": "f" * 10}
    assert pins.files["lora/other"] == hashes["other"]


def test_another_checkpoint_is_called_as_workers_call_it() -> None:
    old, new = pushed("anime", "checkpoint", "a", 1), pushed("anime", "checkpoint", "b", 2)
    new = new.model_copy(update={"model": "anime [bbbbbbbbbb]"})
    pins = Pins([old, new], "sd15")
    params = pins.of(Params(refiner_checkpoint="anime", refiner_switch_at=0.5))
    assert params.refiner_checkpoint == "anime [bbbbbbbbbb]"
    assert pins.of_own(params, {"refiner_checkpoint": "a" * 64}) == {"refiner_checkpoint": "anime"}
    assert set(pins.files.values()) == {"a" * 64, "b" * 64}


def test_what_breaks_off_is_not_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "cat.safetensors"
    path.write_bytes(bytes(range(250)))
    sha256, size = hash_of(path)
    objects = ModelObjects(Store(tmp_path / "store"))
    objects.put_part(sha256, 0, bytes(range(100)))
    objects.put_part(sha256, 2, b"not all of it")

    class Taker:
        def __init__(self) -> None:
            self.taken: list[int] = []

        def sizes(self, sha256: str) -> dict[int, int]:
            return objects.sizes(sha256)

        def put_part(self, sha256: str, number: int, data: bytes) -> None:
            self.taken.append(number)
            objects.put_part(sha256, number, data)

    taker, told = Taker(), list[int]()
    model = NewModel.of(kind="lora", name="cat", ending=".safetensors", sha256=sha256, size=size)
    send([path], model, taker, told.append, part=100)
    assert sorted(taker.taken) == [1, 2]
    assert told == [100, 200, 250]
    assert objects.sizes(sha256) == {0: 100, 1: 100, 2: 50}
    assert objects.about(sha256) is None
    assert not [*objects.all()]


def test_parts_of_what_lies_beside_a_file_are_sent_again(tmp_path: Path) -> None:
    path, beside = tmp_path / "cat.safetensors", tmp_path / "cat.yaml"
    path.write_bytes(bytes(range(250)))
    beside.write_bytes(b"another")
    objects = ModelObjects(Store(tmp_path / "store"))
    (sha256, size), (its_sha256, its_size) = hash_of(path), hash_of(beside)
    for number, part in enumerate(
        (bytes(range(100)), bytes(range(100, 200)), bytes(range(200, 250)) + b"earlier")
    ):
        objects.put_part(sha256, number, part)
    file = ModelFile(path="cat.yaml", sha256=its_sha256, size=its_size)
    facts: dict[str, Any] = {"kind": "checkpoint", "name": "cat", "ending": ".safetensors", "files": (file,)}
    model = NewModel.of(**facts, sha256=sha256, size=size)
    send([path, beside], model, objects, part=100)
    assert objects.sizes(sha256) == {0: 100, 1: 100, 2: 57}
    whole = PushedModel(**dict(model), part=100, pushed=0.0)
    assert objects.read(whole, 200, 100) == bytes(range(200, 250)) + b"another"


@pytest.mark.parametrize(
    "path", ["../cat.yaml", "/cat.yaml", "a/../../b", "a//b", ".hidden", "a/.b", "c:/d", ""]
)
def test_a_models_files_have_places_below_its_folder(path: str) -> None:
    file = {"path": path, "sha256": "a" * 64, "size": 1}
    with pytest.raises(Refused, match="files"):
        NewModel.of(kind="lora", name="a", ending=".pt", sha256="a" * 64, size=1, files=[file])


def test_a_model_has_no_two_files_in_one_place() -> None:
    for paths in (("a.pt",), ("b", "b"), ("b", "b/c")):
        files = [{"path": path, "sha256": "a" * 64, "size": 1} for path in paths]
        with pytest.raises(Refused, match="one place"):
            NewModel.of(kind="lora", name="a", ending=".pt", sha256="a" * 64, size=1, files=files)


def test_a_folders_hash_is_that_of_its_files() -> None:
    file = {"path": "unet/config.json", "sha256": "a" * 64, "size": 1}
    with pytest.raises(Refused, match="not those of its files"):
        NewModel.of(kind="checkpoint", name="a", ending="", sha256="a" * 64, size=1, files=[file])
    with pytest.raises(Refused, match="not those of its files"):
        NewModel.of(kind="checkpoint", name="a", ending="", sha256="a" * 64, size=1)


def test_what_nobody_went_on_with_is_told_and_not_what_is_whole_or_somebodys(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    objects = ModelObjects(store)
    whole = pushed("cat", "lora", "a")
    for digit in "ab":
        objects.put_part(digit * 64, 0, b"x")
    objects.put_about(whole)
    store.put("models/Lora/ink.safetensors", b"x")
    assert objects.unfinished(before=0.0) == []
    assert objects.unfinished(before=float("inf")) == ["b" * 64]
    assert [*objects.all()] == [whole]


def lora(folder: Path, path: Path) -> None:
    family: Any = open_checkpoint(folder)
    assert isinstance(family, StableDiffusion)
    loras.write_kohya(path, family.unet, loras.UNET, seed=1)


def control(folder: Path, path: Path) -> None:
    network: ControlNetModel = control_files.control_net(folder, 1)
    control_files.write_original(network, path)


def bare_control(folder: Path, path: Path) -> None:
    control_files.write_diffusers(control_files.control_net(folder, 1), path)


def adapter(_: Path, path: Path) -> None:
    control_files.write_original_adapter(control_files.adapter((64, 64, 128, 128), 1), path)


def vae(folder: Path, path: Path) -> None:
    write_original(folder, path)
    own = {name: each for name, each in load_file(path).items() if name.startswith("first_stage_model.")}
    save_file({name.removeprefix("first_stage_model."): each for name, each in own.items()}, path)


def upscaler(_: Path, path: Path) -> None:
    save_file(upscalers.esrgan(), path)


def embedding(_: Path, path: Path) -> None:
    save_file({"emb_params": torch.zeros(2, 64)}, path)


def checkpoint(folder: Path, path: Path) -> None:
    write_original(folder, path)


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (checkpoint, "checkpoint"),
        (lora, "lora"),
        (control, "control"),
        (bare_control, "control"),
        (adapter, "control"),
        (vae, "vae"),
        (upscaler, "upscaler"),
        (embedding, "embedding"),
    ],
)
def test_tensors_tell_what_a_file_is(
    write: Callable[[Path, Path], None],
    kind: ModelKind,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path / "file.safetensors"
    write(cached(tmp_path_factory, sd1), path)
    assert kind_of(path) == kind


def test_a_checkpoint_of_xl_is_one(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert (
        kind_of(write_original(cached(tmp_path_factory, sdxl), tmp_path / "xl.safetensors")) == "checkpoint"
    )


def test_what_tensors_do_not_tell_must_be_said(tmp_path: Path) -> None:
    save_file({"something": torch.zeros(1)}, tmp_path / "a.safetensors")
    for name in ("a.safetensors", "b.pth"):
        with pytest.raises(Refused, match="say what it is with --kind: checkpoint, lora"):
            kind_of(tmp_path / name)
    (tmp_path / "c.safetensors").write_bytes(b"no header")
    with pytest.raises(Refused, match=r"this is no \.safetensors file"):
        kind_of(tmp_path / "c.safetensors")
