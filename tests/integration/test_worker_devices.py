"""``img2img worker`` on a machine of several devices: one command, a worker process for each."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from img2img_producer import Farm, Picture
from img2img_shared.settings import Settings
from tests.checkpoints import cached, sd1
from tests.eventually import eventually
from tests.integration.gateway import picture


def test_one_command_serves_all(
    redis_url: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = str(cached(tmp_path_factory, sd1))
    store = tmp_path / "store"
    environment = {**os.environ, "IMG2IMG_REDIS_URL": redis_url, "IMG2IMG_STORE_URL": str(store)}
    command = [
        sys.executable,
        "-m",
        "img2img_worker",
        "--model",
        model,
        "--slots",
        "1",
        "--device",
        "cpu,cpu",
    ]
    settings = Settings(redis_url=redis_url, store_url=str(store))
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, env={**environment, "OMP_NUM_THREADS": "1"}, stderr=log) as process,
        Farm(settings=settings) as farm,
    ):
        try:
            eventually("both are there", lambda: len(farm.workers()) == 2)
            job = farm.submit([Picture(image=picture())] * 2, model=model, steps=1, width=64, height=64)
            eventually("the job is over", lambda: farm.status(job).finished)
            assert farm.status(job).done == 2
            before = {worker.info.id for worker in farm.workers()}
            victim = min(before)
            os.kill(int(victim.rsplit("-", 2)[1]), signal.SIGKILL)
            eventually("another has taken its place", lambda: len(_others(farm, victim)) == 2)
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0
            eventually("none is listed", lambda: not _others(farm, victim))
        finally:
            process.kill()
    assert "ended by signal 9" in (tmp_path / "log").read_text()


def _others(farm: Farm, victim: str) -> list[str]:
    return [worker.info.id for worker in farm.workers() if worker.info.id != victim]
