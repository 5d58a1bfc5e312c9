"""Models of several files in the store: a folder, and a file with what lies beside it."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from img2img_producer import Farm
from img2img_shared.checkpoints import files_of, sha256_of
from img2img_shared.errors import Refused
from img2img_shared.file_hashes import FileHashes
from img2img_shared.ledger.inversion_names import InversionInfo
from img2img_shared.settings import Settings
from img2img_shared.store import Store
from img2img_worker.farm.own_files import OwnFiles
from img2img_worker.farm.travel.model_files import ModelFiles
from img2img_worker.models.checkpoints.loading import open_checkpoint
from tests.checkpoints import cached, flux_schnell, sd1
from tests.integration.test_pushed_models import GATEWAY, checkpoint, direct, farm, through_gateway
from tests.original_flow import write_original_flow

__all__ = ["GATEWAY", "direct", "farm", "through_gateway"]

#: as A1111 has it beside a checkpoint that predicts velocities
V_PREDICTION = "model:\n  params:\n    parameterization: v\n"
Worker = Callable[[], ModelFiles]


@pytest.fixture
def worker(direct: Farm, store: Path, tmp_path: Path) -> Worker:
    """Makes the files of a worker that has a folder of its own, and shares a cache with others."""

    def worker() -> ModelFiles:
        (tmp_path / "own").mkdir(exist_ok=True)
        settings = Settings(models_dir=tmp_path / "own", model_cache=tmp_path / "cache")
        return ModelFiles(
            index=direct._service.model_index,
            objects=direct._service.model_objects,
            settings=settings,
            hashes=FileHashes(),
            stopping=threading.Event(),
        )

    return worker


def test_a_pushed_flux_has_its_vocabulary(
    direct: Farm, worker: Worker, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = write_original_flow(cached(tmp_path_factory, flux_schnell), tmp_path / "flux.safetensors")
    pushed = direct.models.push(file).model
    assert {each.path.split("/")[0] for each in pushed.files} == {"tokenizer", "tokenizer_t5"}
    found = worker().checkpoint("flux")
    assert found.path.parent.parent == tmp_path / "cache"
    open_checkpoint(found.path)


def test_a_folder_is_pushed_fetched_pulled_and_removed(
    farm: Farm, worker: Worker, store: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = cached(tmp_path_factory, sd1)
    told: list[tuple[str, int, int]] = []
    pushed = farm.models.push(folder, name="tiny", progress=lambda *each: told.append(each)).model
    assert (pushed.kind, pushed.ending, pushed.sha256) == ("checkpoint", "", sha256_of(folder))
    assert told[-1] == ("sending", pushed.total, pushed.total)
    assert farm.models.push(folder, name="tiny").was_there
    found = worker().checkpoint("tiny")
    assert found.path.name == "tiny"
    assert sha256_of(found.path) == pushed.sha256
    open_checkpoint(found.path)
    for _ in range(2):
        pulled = farm.models.pull("tiny", tmp_path / "out")
        assert {*files_of(pulled)} == {*files_of(folder)}
        assert sha256_of(pulled) == pushed.sha256
    (pulled / "model_index.json").write_text("{}")
    with pytest.raises(Refused, match=r"out/tiny/model_index.json': another file is there"):
        farm.models.pull("tiny", tmp_path / "out")
    farm.models.remove("tiny")
    assert not [each for each in (store / "models").rglob("*") if each.is_file()]


def test_a_worker_knows_what_it_fetched_while_its_disk_does_not_tell(
    direct: Farm, worker: Worker, tmp_path: Path
) -> None:
    pushed = direct.models.push(checkpoint(tmp_path / "anime.safetensors", 1)).model
    files = worker()
    assert list(files.fetched) == []
    files.checkpoint("anime")
    assert files.fetched == (pushed.sha256,)
    cache = tmp_path / "cache"
    cache.rename(tmp_path / "elsewhere")
    cache.write_text("no folder")
    assert files.fetched == (pushed.sha256,)


def test_a_file_keeps_what_lay_beside_it(farm: Farm, worker: Worker, tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "anime.safetensors", 1)
    description = tmp_path / "anime.yaml"
    description.write_text(V_PREDICTION)
    farm.models.push(file, name="manga")
    held = worker().checkpoint("manga")
    assert held.path.with_suffix(".yaml").read_text() == V_PREDICTION
    description.unlink()
    with pytest.raises(Refused, match=r"there with manga.yaml beside it"):
        farm.models.push(file, name="manga")
    farm.models.remove("manga")
    farm.models.push(file, name="manga")
    # the one that was fetched before is another model
    assert not worker().checkpoint("manga").path.with_suffix(".yaml").exists()


def test_a_workers_own_file_is_used_where_the_same_lies_beside_it(
    direct: Farm, worker: Worker, tmp_path: Path
) -> None:
    file, own = checkpoint(tmp_path / "anime.safetensors", 1), tmp_path / "own"
    (tmp_path / "anime.yaml").write_text(V_PREDICTION)
    direct.models.push(file)
    files = worker()
    shutil.copy(file, own)
    assert files.checkpoint("anime").path.parent != own
    shutil.copy(tmp_path / "anime.yaml", own)
    assert files.checkpoint("anime").path.parent == own
    (own / "anime.vae.pt").write_text("another VAE")
    assert files.checkpoint("anime").path.parent != own


def test_a_workers_own_folder_is_used_where_it_is_the_same(
    direct: Farm, worker: Worker, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files, own = worker(), tmp_path / "own" / "tiny"
    direct.models.push(cached(tmp_path_factory, sd1), name="tiny")
    shutil.copytree(cached(tmp_path_factory, sd1), own)
    assert files.checkpoint("tiny").path == own
    (own / "unet" / "config.json").write_text("{}")
    assert files.checkpoint("tiny").path != own


def test_a_worker_tells_what_is_in_pushed_textual_inversions(
    direct: Farm, worker: Worker, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name, width in (("fits", 64), ("other", 40)):
        save_file({"emb_params": torch.zeros(3, width)}, tmp_path / f"{name}.safetensors")
        direct.models.push(tmp_path / f"{name}.safetensors")
    checkpoint: Any = SimpleNamespace(family=open_checkpoint(cached(tmp_path_factory, sd1)))
    nobody_asks: Any = None
    own = OwnFiles(nobody_asks, nobody_asks, list)
    with worker().inversions() as pushed:
        found = own.pushed_inversions(checkpoint, pushed)
    assert found["fits"] == InversionInfo(shape=64, vectors=3, pushed=True)
    assert found["other"].reason == "vectors of 40, and this checkpoint's are of 64"


def test_what_is_damaged_beside_a_file_is_named(
    direct: Farm, worker: Worker, store: Path, tmp_path: Path
) -> None:
    file = checkpoint(tmp_path / "anime.safetensors", 1)
    (tmp_path / "anime.yaml").write_text(V_PREDICTION)
    model = direct.models.push(file).model
    objects = direct._service.model_objects
    part = Store(store).get(f"models/{model.sha256}/parts/000000")
    objects.put_part(model.sha256, 0, part[:-1] + b"?")
    with pytest.raises(Exception, match=r"checkpoint anime \(anime.yaml\) in the store is damaged"):
        worker().checkpoint("anime")
