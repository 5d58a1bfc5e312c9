"""Chooses faults at random, and causes them."""

import ctypes
import os
import random
import resource
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from img2img_shared.errors import FarmError
from img2img_shared.ledger.keys import queue_key
from img2img_shared.ledger.redis_url import ANSWER_TIMEOUT
from tests.faults.farm import LEASE, FaultyFarm, Worker
from tests.faults.soak.clients import Account
from tests.faults.soak.gateways import Gateway
from tests.faults.test_queue import HOSTILE

#: chance that an image runs a worker out of memory
FORGETFUL = 0.02
HALF = 0.5

#: constants of <fcntl.h> and <linux/fs.h>
AT_FDCWD, RENAME_EXCHANGE = -100, 2
libc = ctypes.CDLL(None, use_errno=True)


class Saboteur:
    """Chooses a fault at random, and causes it."""

    def __init__(self, farm: FaultyFarm, workers: int, gateway: Gateway, account: Account, seed: int) -> None:
        self.committed: Counter[str] = Counter()
        #: jobs that it cancelled, or may have
        self.cancelled: set[str] = set()
        self._farm = farm
        self._gateway = gateway
        self._account = account
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
            self.kill_gateway,
            self.stop_gateway,
            self.freeze_gateway,
        ]

    def strike(self) -> None:
        """One fault."""
        fault = self._chance.choice(self._faults)
        try:
            fault()
        except (FarmError, ConnectionError, redis.ConnectionError, redis.TimeoutError):
            return  # Redis is down, or still loading
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
        """Freeze Redis, at times longer than anybody waits for an answer; it executes the commands later."""
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
        """For some time, workers can open no more files."""
        with limited(resource.RLIMIT_NOFILE, self._live):
            time.sleep(self._chance.uniform(0, LEASE))

    def hide_store(self) -> None:
        """For some time the store is an empty folder, as of an unmounted share, or no folder (error 20)."""
        folder = self._farm.folder / "store"
        other = Path(tempfile.mkdtemp(dir=self._farm.folder)) / "other"
        if self._chance.random() < HALF:
            other.mkdir()
        else:
            other.touch()
        exchange(folder, other)
        try:
            time.sleep(self._chance.uniform(0, LEASE))
        finally:
            exchange(folder, other)

    def cut_connections(self) -> None:
        with self._farm.server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def delete_queue(self) -> None:
        with self._farm.server.client() as client:
            client.delete(queue_key(self._farm.settings.prefix, self._farm.model))

    def send_rubbish(self) -> None:
        with self._farm.server.client() as client:
            client.lpush(queue_key(self._farm.settings.prefix, self._farm.model), *HOSTILE.values())

    def kill_gateway(self) -> None:
        self._gateway.signal(signal.SIGKILL)
        self._gateway.wait()
        time.sleep(self._chance.uniform(0, LEASE))
        self._gateway.start()

    def stop_gateway(self) -> None:
        self._gateway.signal(signal.SIGTERM)
        assert self._gateway.wait() == 0
        self._gateway.start()

    def freeze_gateway(self) -> None:
        self._gateway.signal(signal.SIGSTOP)
        time.sleep(self._chance.uniform(0, 2 * LEASE))
        self._gateway.signal(signal.SIGCONT)

    def cancel_job(self) -> None:
        job = self._recent_job()
        self.cancelled.add(job)
        self._farm.producer.cancel(job)

    def _recent_job(self) -> str:
        return self._chance.choice(self._account.acknowledged[-5:]).job

    def pause_job(self) -> None:
        job = self._recent_job()
        self._farm.producer.pause(job)
        time.sleep(self._chance.uniform(0, 2))
        self._farm.producer.resume(job)


def exchange(one: Path, other: Path) -> None:
    """Exchange two names atomically, so that both exist at any moment."""
    if libc.renameat2(AT_FDCWD, bytes(one), AT_FDCWD, bytes(other), RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


@contextmanager
def limited(what: int, workers: list[Worker]) -> Iterator[None]:
    """In this context, the workers can have no more open files than they have now."""
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
