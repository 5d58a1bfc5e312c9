"""What a farm's service knows of its checkpoints, and which it means where a job names none."""

from pathlib import Path

from img2img_shared.farm.service import FarmService
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


def test_what_others_have_asked_for_does_not_change_an_embedded_farms_default(tmp_path: Path) -> None:
    with FarmService(Settings(data_dir=tmp_path)) as farm:
        assert farm.default_model() == "demo"
        beat(farm, "/models/tiny.safetensors")
        assert farm.default_model() == "demo"


def test_two_names_of_one_checkpoint_leave_no_doubt(redis_url: str, tmp_path: Path) -> None:
    with FarmService(Settings(redis_url=redis_url, store_url=str(tmp_path))) as farm:
        for model in ("/b/sd15.safetensors", "/a/sd15.safetensors"):
            about = WorkerInfo(
                id=model, model=model, device="none", slots=1, file_name="sd15", sha256="a" * 64
            )
            farm.ledger.beat(about)
        assert farm.default_model() == "/a/sd15.safetensors"
        assert farm.name_of("sd15") == "/a/sd15.safetensors"
