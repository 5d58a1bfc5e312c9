"""The farm's own cost per image, and whether it grows with the job.

    python -m bench.farm [--images 10 100 1000] [--model demo]

Renders small pictures through the embedded farm and, side by side, the same prepared pictures by the engine
alone. CPU seconds of all processes (producer, Redis, worker) less the engine's own are the farm's cost:
upload, ledger, tickets, decoding, preparing, PNG, storing. CPU time, not wall time, so that other load on
the machine does not count.
"""

import argparse
import io
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from PIL import Image
from rich.console import Console
from rich.table import Table

from img2img_producer import Farm
from img2img_shared.params import Params
from img2img_shared.settings import Settings
from img2img_worker.engine.engine import Engine, Render
from img2img_worker.models.checkpoints.loading import load
from img2img_worker.pictures.decode import decode_picture
from img2img_worker.pictures.prepare import prepare

PARAMS = Params(width=64, height=64, steps=4, denoising_strength=0.5, seed=1, subseed=1, cfg_scale=1.0)


def picture(number: int) -> bytes:
    """A PNG of 96 × 80 pixels, different for each number."""
    ramp = Image.radial_gradient("L").resize((96, 80)).rotate(number)
    data = io.BytesIO()
    Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180))).save(data, "PNG")
    return data.getvalue()


class Clock:
    """CPU seconds of a farm's processes."""

    def __init__(self, farm: Farm) -> None:
        self._redis = redis.Redis.from_url(farm.redis_url)
        self._worker = int(farm.workers()[0].info.id.rsplit("-", 2)[1])

    def read(self) -> dict[str, float]:
        """Seconds so far, by process."""
        used = Path(f"/proc/{self._worker}/stat").read_text().rpartition(")")[2].split()
        server = self._redis.info("cpu")
        return {
            "producer": time.process_time(),
            "worker": (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK"),
            "Redis": server["used_cpu_sys"] + server["used_cpu_user"],
        }


@contextmanager
def embedded(folder: Path, model: str) -> Iterator[Farm]:
    """A farm of one worker that has rendered a first picture."""
    with Farm(settings=Settings(data_dir=folder, redis_url=None, store_url=None)) as farm:
        for _ in farm.results(farm.submit([picture(0)], model=model, params=PARAMS)):
            pass
        yield farm


def through_the_farm(farm: Farm, clock: Clock, model: str, n: int) -> tuple[dict[str, float], float]:
    """CPU seconds by process, and wall seconds, for `n` images."""
    inputs = [picture(number) for number in range(n)]
    before, start = clock.read(), time.perf_counter()
    results = list(farm.results(farm.submit(inputs, model=model, params=PARAMS)))
    for result in results:
        result.read()
    wall = time.perf_counter() - start
    if len(results) != n:
        raise RuntimeError(f"{len(results)} of {n} pictures came out")
    return {name: seconds - before[name] for name, seconds in clock.read().items()}, wall


def by_the_engine(engine: Engine, n: int) -> tuple[float, float]:
    """CPU and wall seconds of the engine alone for `n` prepared images."""
    renders = []
    for number in range(n):
        ready = prepare(decode_picture(picture(number), "image", 10_000), None, PARAMS)
        renders.append(
            Render(
                params=PARAMS,
                prompt="",
                negative_prompt="",
                seed=number,
                subseed=0,
                pixels=ready.pixels,
                latent_size=ready.latent_size,
            )
        )
    cpu, wall = time.process_time(), time.perf_counter()
    for future in [engine.submit(render) for render in renders]:
        future.result()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--model", default="demo")
    wanted = parser.parse_args()

    table = Table(
        "images", "producer", "Redis", "worker", "engine alone", "farm's own", "wall / engine's wall"
    )
    table.title = "CPU ms per image of 64 × 64, by process"
    settings = Settings(device="cpu")
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder), wanted.model) as farm:
        clock = Clock(farm)
        with Engine(load(wanted.model, settings)) as engine:
            by_the_engine(engine, 8)
            for n in wanted.images:
                used, wall = through_the_farm(farm, clock, wanted.model, n)
                alone, alone_wall = by_the_engine(engine, n)
                own = sum(used.values()) - alone
                cells = [used["producer"], used["Redis"], used["worker"], alone, own]
                Console(stderr=True).print(f"{n} images: {1000 * own / n:.1f} ms each")
                table.add_row(
                    str(n), *(f"{1000 * cell / n:.1f}" for cell in cells), f"{wall / alone_wall:.2f}"
                )
    Console().print(table)


if __name__ == "__main__":
    main()
