"""Random faults against a farm under continuous mixed submission, and an account of every image at the end.

python -m tests.faults.soak [--minutes 10] [--workers 3] [--producers 4] [--seed 1]
"""

import argparse
import logging
import os
import random
import resource
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from img2img_producer import Farm
from img2img_shared.errors import FarmError, StoreError, Unavailable
from img2img_shared.job import JobState
from img2img_shared.ledger.keys import queue_key
from img2img_shared.ledger.redis_url import ANSWER_TIMEOUT
from tests.checkpoints import sd1
from tests.faults.farm import LEASE, FaultyFarm, ForkServer, Worker, eventually, memory_of, picture
from tests.faults.malicious_input import corpus
from tests.faults.test_queue import HOSTILE

#: seconds between two faults
CALM = (1.0, 4.0)
#: what an image may fail with here: the faults that were injected
INJECTED = ("workers died", "is not allowed", "out of memory", "out of files", "os error 20")
#: chance that an image runs a worker out of memory
FORGETFUL = 0.02
SAMPLERS = ("Euler", "Euler a", "Heun", "DDIM", "DPM++ 2M")


class Producers:
    """Threads that submit mixed jobs until told to stop."""

    def __init__(self, farm: FaultyFarm, count: int, seed: int) -> None:
        self.jobs: list[str] = []
        self.refused = 0
        #: what ended a producer that should have gone on
        self.errors: list[Exception] = []
        self._farm = farm
        self._hostile = [sample.data for sample in corpus() if len(sample.data) < 100_000]
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(seed + i,), daemon=True) for i in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No further job."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, seed: int) -> None:
        try:
            self._submit(random.Random(seed))
        except Exception as error:
            self.errors.append(error)

    def _submit(self, chance: random.Random) -> None:
        farm = self._connected()
        with farm:
            while not self._stop.wait(chance.uniform(0.5, 3)):
                inputs: list[bytes] = [picture(chance.randrange(20)) for _ in range(chance.randint(1, 5))]
                if chance.random() < 0.2:
                    inputs.append(chance.choice(self._hostile))
                self._until_written(farm, inputs, chance)

    def _connected(self) -> Farm:
        while True:
            try:
                return Farm(settings=self._farm.settings)
            except Unavailable:
                self._stop.wait(0.1)

    def _until_written(self, farm: Farm, inputs: list[bytes], chance: random.Random) -> None:
        """Asked again with the same key until it is known to be written: it makes one job."""
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
            except (Unavailable, StoreError):
                self.refused += 1
                if self._stop.wait(0.1):
                    return  # whether it was written, nobody was told: so it is not counted


class Saboteur:
    """Draws a fault, and commits it."""

    def __init__(self, farm: FaultyFarm, workers: int, producers: Producers, seed: int) -> None:
        self.committed: Counter[str] = Counter()
        self._farm = farm
        self._producers = producers
        self._chance = random.Random(seed)
        self._live: list[Worker] = [self._worker() for _ in range(workers)]
        self._faults: list[Callable[[], None]] = [
            self.kill_worker,
            self.stop_worker,
            self.freeze_worker,
            self.restart_redis,
            self.freeze_redis,
            self.fill_redis,
            self.cut_connections,
            self.delete_queue,
            self.send_rubbish,
            self.cancel_job,
            self.pause_job,
            self.run_out_of_files,
            self.hide_store,
        ]

    def strike(self) -> None:
        """One fault."""
        fault = self._chance.choice(self._faults)
        try:
            fault()
        except (FarmError, ConnectionError):
            return  # Redis was not there to be asked
        self.committed[fault.__name__.replace("_", " ")] += 1
        self._live = [worker if worker.alive else self._worker() for worker in self._live]

    def _worker(self) -> Worker:
        return self._farm.worker(forgetful={"chance": FORGETFUL, "seed": self._chance.randrange(1000)})

    def kill_worker(self) -> None:
        worker = self._chance.choice(self._live)
        worker.signal("KILL")
        assert worker.exit_status

    def stop_worker(self) -> None:
        worker = self._chance.choice(self._live)
        worker.signal(self._chance.choice(("TERM", "INT")))
        assert worker.exit_status <= 0 or worker.exit_status in (
            1,
            130,
            143,
        )  # while it starts, any signal ends it

    def freeze_worker(self) -> None:
        worker = self._chance.choice(self._live)
        worker.signal("STOP")
        time.sleep(self._chance.uniform(0, 2 * LEASE))
        worker.signal("CONT")

    def restart_redis(self) -> None:
        self._farm.server.kill()
        time.sleep(self._chance.uniform(0, 1.5 * LEASE))
        self._farm.server.start()

    def freeze_redis(self) -> None:
        """At times for longer than anybody waits for its answer: what was asked is done nevertheless."""
        os.kill(self._farm.server.pid, signal.SIGSTOP)
        time.sleep(self._chance.uniform(0, 1.5 * ANSWER_TIMEOUT))
        os.kill(self._farm.server.pid, signal.SIGCONT)

    def fill_redis(self) -> None:
        with self._farm.server.client() as client:
            client.config_set("maxmemory", 1)
            try:
                time.sleep(self._chance.uniform(0, LEASE))
            finally:
                client.config_set("maxmemory", 0)

    def run_out_of_files(self) -> None:
        """No worker can open one more for some time."""
        with limited(resource.RLIMIT_NOFILE, self._live):
            time.sleep(self._chance.uniform(0, LEASE))

    def hide_store(self) -> None:
        """The folder is no folder for some time: what is not retried fails with error 20."""
        folder = self._farm.folder / "store"
        aside = folder.with_name("hidden")
        folder.rename(aside)
        try:
            folder.touch()
            time.sleep(self._chance.uniform(0, LEASE))
        finally:
            folder.unlink()
            aside.rename(folder)

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


@contextmanager
def limited(what: int, workers: list[Worker]) -> Iterator[None]:
    """The workers may have no more of it than they have."""
    before = {}
    for worker in workers:
        if worker.alive:
            before[worker.pid] = resource.prlimit(worker.pid, what)
            had = len(list(Path(f"/proc/{worker.pid}/fd").iterdir()))
            resource.prlimit(worker.pid, what, (had, before[worker.pid][1]))
    try:
        yield
    finally:
        for worker in workers:
            if worker.alive and worker.pid in before:
                resource.prlimit(worker.pid, what, before[worker.pid])


class Memory:
    """What each process that lives throughout holds, over time."""

    def __init__(self, **processes: Callable[[], int]) -> None:
        self._processes = processes
        self._seen: dict[str, list[int]] = {name: [] for name in processes}

    def look(self) -> None:
        """One measurement of each."""
        for name, pid in self._processes.items():
            if resident := memory_of(pid(), "VmRSS"):
                self._seen[name].append(resident)

    def rows(self) -> Iterator[tuple[str, str]]:
        """For each: medians of the second and the last third of the time."""
        for name, seen in self._seen.items():
            third = len(seen) // 3
            if third:
                middle, last = sorted(seen[third : 2 * third]), sorted(seen[2 * third :])
                parts = [part[len(part) // 2] for part in (middle, last)]
                yield (
                    f"memory of {name}: middle third, last third",
                    f"{parts[0] / 2**20:.0f} MB, {parts[1] / 2**20:.0f} MB (× {parts[1] / parts[0]:.3f})",
                )


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


def soak(farm: FaultyFarm, wanted: argparse.Namespace, console: Console) -> tuple[Table, bool]:
    """Strike until the time is over or Ctrl-C; the account as a table, and whether all is well."""
    began = time.monotonic()
    producers = Producers(farm, wanted.producers, wanted.seed)
    try:
        saboteur = Saboteur(farm, wanted.workers, producers, wanted.seed)
        peaceful = farm.worker()  # one is left in peace: its memory is the one to watch
        memory = Memory(
            worker=lambda: peaceful.pid, Redis=lambda: farm.server.pid, producers=lambda: os.getpid()
        )
        try:
            eventually("a job is there", lambda: producers.jobs)
            chance = random.Random(wanted.seed)
            with console.status("soaking"):
                while time.monotonic() < began + 60 * wanted.minutes and not producers.errors:
                    time.sleep(chance.uniform(*CALM))
                    saboteur.strike()
                    memory.look()
        except KeyboardInterrupt:
            console.print("stopped: what there is by now")
    finally:
        producers.stop()
    with console.status("waiting for all jobs to end"):
        found = account_for(farm, producers.jobs)
    minutes = (time.monotonic() - began) / 60
    table = Table("what", "count", title=f"{minutes:.1f} minutes, {len(producers.jobs)} jobs")
    for what, count in (*found.items(), ("submits refused, and repeated", producers.refused)):
        table.add_row(what, f"{count:,}")
    for fault, count in sorted(saboteur.committed.items()):
        table.add_row(f"fault: {fault}", f"{count:,}")
    for row in memory.rows():
        table.add_row(*row)
    for error in producers.errors:
        table.add_row("a producer ended", repr(error))
    well = not (found["lost"] or found["finished twice"] or producers.errors)
    return table, well and not any("no injected" in what for what in found)


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
    logging.disable(logging.WARNING)  # the producers' own, of each fault
    fork_server = ForkServer()
    try:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = sd1(Path(folder) / "checkpoint")
            with FaultyFarm(Path(folder), fork_server, checkpoint) as farm:
                table, well = soak(farm, wanted, console)
    finally:
        fork_server.close()
    console.print(table)
    if not well:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
