"""This farm: a Redis, a worker, and the Python client."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.peers.peer import CFG_SCALE, NEGATIVE, PROMPT, Wish, program, until
from img2img_producer import Farm, Picture
from img2img_shared.settings import Settings
from tests.servers import RedisServer


class FarmPeer:
    def __init__(self, farm: Farm, model: str, processes: Sequence[int]) -> None:
        self.processes = processes
        self.farm, self.model = farm, model

    def render(self, wanted: Sequence[Wish]) -> list[bytes]:
        job = self.farm.submit(
            [Picture(image=each.png) for each in wanted],
            model=self.model,
            prompt=PROMPT,
            negative_prompt=NEGATIVE,
            width=wanted[0].side,
            height=wanted[0].side,
            seed=wanted[0].seed,
            steps=wanted[0].steps,
            denoising_strength=wanted[0].strength,
            cfg_scale=CFG_SCALE,
            sampler_name="Euler",
        )
        return [result.read() for result in self.farm.results(job)]


@contextmanager
def started(checkpoint: Path, folder: Path, slots: int, device: str, *, shares: bool) -> Iterator[FarmPeer]:
    """
    Args:
        shares: images share calls on a CPU, too; else the worker's default.
    """
    server = RedisServer()
    store, log = str(folder / "store"), folder / "farm.log"
    command = [sys.executable, "-m", "img2img_worker", "--model", str(checkpoint), "--slots", str(slots)]
    environment = {
        "IMG2IMG_REDIS_URL": server.url,
        "IMG2IMG_STORE_URL": store,
        "IMG2IMG_DATA_DIR": str(folder / "data"),
        **({"IMG2IMG_DETERMINISTIC": "0"} if shares else {}),
    }
    try:
        with (
            program([*command, "--device", device], log, environment) as worker,
            Farm(settings=Settings(redis_url=server.url, store_url=store)) as farm,
        ):
            until(worker, farm.workers)
            pids = [each.pid for each in (worker, server.process) if each is not None]
            yield FarmPeer(farm, str(checkpoint), pids)
    finally:
        server.remove()
