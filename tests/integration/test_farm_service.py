"""What a farm's service knows of its checkpoints, and which it means where a job names none."""

from pathlib import Path
from typing import Any

import pytest

from img2img_shared.checkpoints import sha256_of
from img2img_shared.errors import Refused
from img2img_shared.farm.service import FarmService
from img2img_shared.farm.submission import Upload
from img2img_shared.ledger.file_names import FileNames
from img2img_shared.params import Params
from img2img_shared.pushed_models.pushed_model import PushedModel
from img2img_shared.records import WorkerInfo
from img2img_shared.settings import Settings


def folder_with(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(name.encode())
    return folder


def beat(farm: FarmService, model: str) -> None:
    farm.ledger.beat(WorkerInfo(id=model, model=model, device="none", slots=1, file_name=Path(model).name))


def test_a_checkpoint_of_an_embedded_farm_is_one_by_its_path_and_by_its_name(tmp_path: Path) -> None:
    models = folder_with(tmp_path / "models", "tiny.safetensors", "other.safetensors")
    path = str(models / "tiny.safetensors")
    with FarmService(Settings(data_dir=tmp_path / "data", models_dir=models)) as farm:
        assert farm.models() == ["demo", "other", "tiny"]
        assert farm.name_of(path) == "tiny"
        beat(farm, path)
        assert farm.models() == sorted(["demo", "other", path])
        assert farm.name_of("tiny") == farm.name_of("tiny.safetensors") == path
        assert farm.name_of("elsewhere") == "elsewhere"


def test_a_checkpoint_of_an_embedded_farm_is_known_by_its_hash_before_it_is_loaded(tmp_path: Path) -> None:
    models = folder_with(tmp_path / "models", "tiny.safetensors", "other.safetensors")
    digest = sha256_of(models / "tiny.safetensors")
    with FarmService(Settings(data_dir=tmp_path / "data", models_dir=models)) as farm:
        assert farm.name_of(digest) == farm.name_of(digest[:10].upper()) == "tiny"
        assert farm.name_of("0" * 10) == "0" * 10


def test_what_others_have_asked_for_does_not_change_an_embedded_farms_default(tmp_path: Path) -> None:
    with FarmService(Settings(data_dir=tmp_path)) as farm:
        assert farm.default_model() == "demo"
        beat(farm, "/models/tiny.safetensors")
        assert farm.default_model() == "demo"


def test_extras_go_to_workers_that_have_the_upscalers_whatever_those_render(
    redis_url: str, tmp_path: Path
) -> None:
    settings = Settings(redis_url=redis_url, store_url=str(tmp_path))
    with FarmService(settings) as farm:
        names = FileNames(farm.redis)
        for model, has in (("a", []), ("b", ["4x-cat"]), ("c", ["2x-cat", "4x-cat"])):
            beat(farm, model)
            names.say(model, {"upscaler": has})

        def model_of(**wanted: Any) -> str:
            params = Params(extras=True, **wanted)
            submission = farm.begin(tenant="default", model=None, params=params)
            submission.add(Upload(pictures={"image": b"picture"}))
            submission.commit()
            return submission.job.model

        # of those that have it, the one with the least to do
        assert [model_of(upscaler_1="Lanczos") for _ in range(3)] == ["a", "b", "c"]
        assert [model_of(upscaler_1="4x-cat") for _ in range(2)] == ["b", "c"]
        two = {"upscaler_1": "4x-cat", "upscaler_2": "2x-cat", "extras_upscaler_2_visibility": 0.5}
        assert model_of(**two) == "c"
        with pytest.raises(Refused, match=r"upscaler_2 is .8x-cat.: .*4x-cat"):
            model_of(**{**two, "upscaler_2": "8x-cat"})


def test_two_names_of_one_checkpoint_leave_no_doubt(redis_url: str, tmp_path: Path) -> None:
    with FarmService(Settings(redis_url=redis_url, store_url=str(tmp_path))) as farm:
        for model in ("/b/sd15.safetensors", "/a/sd15.safetensors"):
            about = WorkerInfo(
                id=model, model=model, device="none", slots=1, file_name="sd15", sha256="a" * 64
            )
            farm.ledger.beat(about)
        assert farm.default_model() == "/a/sd15.safetensors"
        assert farm.name_of("sd15") == "/a/sd15.safetensors"


def test_a_pushed_checkpoint_that_is_removed_while_it_is_looked_up_is_not_here(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = PushedModel(
        kind="checkpoint",
        name="sd15",
        ending=".safetensors",
        sha256="a" * 64,
        size=1,
        part=1,
        pushed=0,
        model="sd15",
    )
    with FarmService(Settings(redis_url=redis_url, store_url=str(tmp_path))) as farm:
        farm.model_index.put(pushed)
        find = farm.model_index.find

        def find_and_remove(*wanted: Any) -> PushedModel | None:
            found = find(*wanted)
            farm.model_index.remove(pushed.sha256)
            return found

        monkeypatch.setattr(farm.model_index, "find", find_and_remove)
        assert farm.find_checkpoint("sd15") is None
