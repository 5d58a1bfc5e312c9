"""Random faults against a farm under continuous mixed submission, and an account of every image at the end.

python -m tests.faults.soak [--minutes 10] [--workers 3] [--producers 4] [--seed 1]
"""

import argparse
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from img2img_producer import Farm
from img2img_shared.errors import FarmError, Unavailable
from img2img_shared.job import JobState
from img2img_shared.keys import queue_key
from tests.checkpoints import sd1
from tests.faults.farm import LEASE, FaultyFarm, Nursery, Worker, eventually, picture
from tests.faults.test_queue import HOSTILE

#: seconds between two faults
CALM = (1.0, 4.0)
#: what an image may fail with here: the faults that were injected
INJECTED = ("workers died", "is not allowed")
SAMPLERS = ("Euler", "Euler a", "Heun", "DDIM", "DPM++ 2M")


class Producers:
    """Threads that submit mixed jobs until told to stop."""

    def __init__(self, farm: FaultyFarm, count: int, seed: int) -> None:
        self.jobs: list[str] = []
        self.refused = 0
        self._farm = farm
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._submit, args=(seed + i,)) for i in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No further job."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _submit(self, seed: int) -> None:
        chance = random.Random(seed)
        with Farm(settings=self._farm.settings) as farm:
            while not self._stop.wait(chance.uniform(0.5, 3)):
                inputs: list[bytes] = [picture(chance.randrange(20)) for _ in range(chance.randint(1, 5))]
                if chance.random() < 0.1:
                    inputs.append(b"not a picture")
                # asked again with the same key until it is known to be written: it makes one job
                self._until_written(farm, inputs, chance)

    def _until_written(self, farm: Farm, inputs: list[bytes], chance: random.Random) -> None:
        wanted: dict[str, Any] = {
            "model": self._farm.model,
            "steps": chance.randint(1, 12),
            "denoising_strength": chance.uniform(0, 1),
            "sampler_name": chance.choice(SAMPLERS),
            "width": chance.choice((64, 72)),
            "height": 64,
            "priority": chance.randint(-2, 2),
            "idempotency_key": f"{chance.getrandbits(64):x}",
        }
        while True:
            try:
                self.jobs.append(farm.submit(inputs, **wanted))
                return
            except Unavailable:
                self.refused += 1


class Saboteur:
    """Draws a fault, and commits it."""

    def __init__(self, farm: FaultyFarm, workers: int, producers: Producers, seed: int) -> None:
        self.committed: Counter[str] = Counter()
        self._farm = farm
        self._producers = producers
        self._chance = random.Random(seed)
        self._live: list[Worker] = [farm.worker() for _ in range(workers)]
        self._faults: list[Callable[[], None]] = [
            self.kill_worker,
            self.stop_worker,
            self.freeze_worker,
            self.restart_redis,
            self.cut_connections,
            self.delete_queue,
            self.send_rubbish,
            self.cancel_job,
            self.pause_job,
        ]

    def strike(self) -> None:
        """One fault."""
        fault = self._chance.choice(self._faults)
        with suppress(FarmError, ConnectionError):
            fault()
            self.committed[fault.__name__.replace("_", " ")] += 1
        self._live = [worker if worker.alive else self._farm.worker() for worker in self._live]

    def kill_worker(self) -> None:
        self._chance.choice(self._live).signal("KILL")

    def stop_worker(self) -> None:
        worker = self._chance.choice(self._live)
        worker.signal("TERM")
        eventually("it ends", lambda: not worker.alive)

    def freeze_worker(self) -> None:
        worker = self._chance.choice(self._live)
        worker.signal("STOP")
        time.sleep(self._chance.uniform(0, 2 * LEASE))
        worker.signal("CONT")

    def restart_redis(self) -> None:
        self._farm.server.kill()
        time.sleep(self._chance.uniform(0, 1.5 * LEASE))
        self._farm.server.start()

    def cut_connections(self) -> None:
        with self._farm.server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def delete_queue(self) -> None:
        with self._farm.server.client() as client:
            client.delete(queue_key(self._farm.settings.prefix, self._farm.model))

    def send_rubbish(self) -> None:
        with self._farm.server.client() as client:
            client.lpush(queue_key(self._farm.settings.prefix, self._farm.model), *HOSTILE.values())

    def cancel_job(self) -> None:
        self._farm.producer.cancel(self._chance.choice(self._producers.jobs[-5:]))

    def pause_job(self) -> None:
        job = self._chance.choice(self._producers.jobs[-5:])
        self._farm.producer.pause(job)
        time.sleep(self._chance.uniform(0, 2))
        self._farm.producer.resume(job)


def account_for(farm: FaultyFarm, jobs: list[str]) -> Counter[str]:
    """What became of every image of every job."""
    found: Counter[str] = Counter()
    for job in jobs:
        status = eventually(f"job {job} ends", lambda job=job: _ended(farm, job), patience=600)  # type: ignore[misc]
        found["images"] += status.n
        found["done"] += status.done
        found["cancelled"] += status.cancelled
        found["failed"] += status.failed
        found["lost"] += status.n - status.done - status.failed - status.cancelled
        found["lost"] += status.done - len(farm.pictures(job))
        found["finished twice"] += sum(count > 1 for count in farm.finishes(job))
        for reason in farm.reasons(job).values():
            if not any(known in reason for known in INJECTED):
                found[f"failed for no injected reason: {reason}"] += 1
    return found


def _ended(farm: FaultyFarm, job: str) -> Any:
    status = farm.status(job)
    if status.state == JobState.PAUSED:
        farm.producer.resume(job)
    return status if status.finished else None


def main() -> None:
    """Soak, account, and say what was found; exits with 1 if anything was lost or done twice."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--producers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    console = Console()

    nursery = Nursery()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = sd1(Path(folder) / "checkpoint")
        with FaultyFarm(Path(folder), nursery, checkpoint) as farm:
            producers = Producers(farm, wanted.producers, wanted.seed)
            saboteur = Saboteur(farm, wanted.workers, producers, wanted.seed)
            eventually("a job is there", lambda: producers.jobs)
            # one worker is left in peace: its memory is the one to watch
            peaceful = farm.worker()
            resident = []
            end = time.monotonic() + 60 * wanted.minutes
            chance = random.Random(wanted.seed)
            for _ in track(range(10**9), "soaking", console=console, transient=True, total=None):
                if time.monotonic() > end:
                    break
                time.sleep(chance.uniform(*CALM))
                saboteur.strike()
                resident.append(peaceful.resident)
            producers.stop()
            found = account_for(farm, producers.jobs)
    nursery.close()

    table = Table("what", "count", title=f"{wanted.minutes:g} minutes, {len(producers.jobs)} jobs")
    for what, count in (*found.items(), *(("fault: " + k, v) for k, v in saboteur.committed.items())):
        table.add_row(what, f"{count:,}")
    third = len(resident) // 3
    middle, last = sorted(resident[third : 2 * third]), sorted(resident[2 * third :])
    growth = last[len(last) // 2] / middle[len(middle) // 2]
    table.add_row("memory of a worker, last third / middle third", f"{growth:.3f}")
    console.print(table)
    if found["lost"] or found["finished twice"] or any("no injected" in what for what in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
