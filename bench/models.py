"""Two real workers and three checkpoints: what they load, how long images wait, how busy workers are.

    python -m bench.models [--images 240]

Three quarters of the images are of one model, most others of a second, three of a third; once half are done,
an urgent job of the third comes. Small seeded checkpoints, pictures of 64 × 64, with a Redis of its own.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.farm import picture
from img2img_producer import Farm
from img2img_shared.job import ImageState
from img2img_shared.ledger import Ledger, connect
from img2img_shared.records import Event
from img2img_shared.settings import Settings
from tests.checkpoints import sd1
from tests.servers import RedisServer

WORKERS = 2
MODELS = ("common", "less", "rare")
#: seconds between two looks at the workers
LOOK = 0.25


def submit(farm: Farm, model: str, images: int, priority: int = 0) -> str:
    """A job of small pictures."""
    return farm.submit(
        [picture(number) for number in range(images)],
        model=model,
        priority=priority,
        steps=20,
        width=64,
        height=64,
        seed=1,
    )


def waits(ledger: Ledger, job: str) -> list[float]:
    """Seconds from the job's first event to the start of each image."""
    events: list[Event] = []
    while more := ledger.events(job, "default", after=events[-1].id if events else "0"):
        events += more
    at = [int(event.id.partition("-")[0]) / 1000 for event in events]
    begun = {
        event.index: moment - at[0]
        for event, moment in zip(events, at, strict=True)
        if event.state == ImageState.RUNNING and event.index is not None
    }
    return sorted(begun.values())


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--images", type=int, default=240)
    wanted = options.parse_args()
    server = RedisServer()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed, model in enumerate(MODELS, 1):
            sd1(folder / "models" / model, seed=seed)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "IMG2IMG_REDIS_URL": server.url,
            "IMG2IMG_STORE_URL": str(folder / "store"),
            "IMG2IMG_MODELS_DIR": str(folder / "models"),
        }
        logs = [folder / f"{number}.log" for number in range(WORKERS)]
        workers = []
        for log in logs:
            with log.open("w") as out:
                command = [sys.executable, "-m", "img2img_worker"]
                workers.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out))
        try:
            settings = Settings(redis_url=server.url, store_url=str(folder / "store"), data_dir=folder)
            with Farm(settings=settings) as farm:
                measure(farm, Ledger(connect(server.url)), wanted.images, logs)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait()
            server.remove()


def measure(farm: Farm, ledger: Ledger, images: int, logs: list[Path]) -> None:
    """Submit, watch the workers until all is done, and print the outcome."""
    while len(farm.workers()) < WORKERS:
        time.sleep(LOOK)
    jobs = {
        "common": submit(farm, "common", images * 3 // 4),
        "less": submit(farm, "less", images // 4 - 3),
        "rare": submit(farm, "rare", 3),
    }
    seen: Counter[str] = Counter()
    begun = time.monotonic()
    while not all(farm.status(job).finished for job in jobs.values()):
        done = sum(farm.status(job).done for job in jobs.values())
        if "rare, urgent" not in jobs and done > images // 2:
            jobs["rare, urgent"] = submit(farm, "rare", 2, priority=10)
        for worker in farm.workers():
            seen["loading" if worker.report.loading else "busy" if worker.running else "idle"] += 1
        time.sleep(LOOK)
    seconds = time.monotonic() - begun
    table = Table("job", "images", "first begun after", "half", "last", title="shares of the whole time")
    for name, job in jobs.items():
        found = waits(ledger, job)
        cells = (found[0], found[len(found) // 2], found[-1])
        table.add_row(name, str(len(found)), *(f"{each / seconds:.2f}" for each in cells))
    console = Console()
    console.print(table)
    loads = [re.findall(r"serves (\w+) .* loaded in ([\d.]+) s", log.read_text()) for log in logs]
    for number, each in enumerate(loads):
        console.print(f"worker {number} loaded {', '.join(f'{model} ({taken} s)' for model, taken in each)}")
    shares = ", ".join(f"{what} {count / sum(seen.values()):.0%}" for what, count in seen.items())
    console.print(f"{seconds:.0f} s in all; workers were {shares}")


if __name__ == "__main__":
    main()
