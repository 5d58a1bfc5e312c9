"""The cost of acknowledging a job only once it is on Redis' disk, or on a replica.

    python -m bench.acknowledge [--jobs 200] [--threads 16]

Writes jobs into the ledger, one after another and from several threads at once, of a Redis that writes its
append-only file each second or at every command, with a replica beside it. Storing a job's pictures comes on
top, and costs the same whatever is promised.
"""

import argparse
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

from img2img_shared.job import Job
from img2img_shared.ledger import Ledger, connect
from img2img_shared.params import Params
from img2img_shared.settings import Acknowledge
from tests.servers import RedisServer, raw_client

#: how often each is measured
ROUNDS = 7


@dataclass(frozen=True)
class Promise:
    """What a submit waits for, and how often the server writes its file to the disk."""

    acknowledge: Acknowledge
    appendfsync: str


PROMISES = (
    Promise("memory", "everysec"),
    Promise("memory", "always"),
    Promise("disk", "everysec"),
    Promise("disk", "always"),
    Promise("replica", "everysec"),
)


def seconds(ledger: Ledger, jobs: int, threads: int) -> float:
    """Wall seconds of `jobs` submits by some threads."""
    made = [
        Job(id=secrets.token_hex(8), model="m", params=Params(seed=1, subseed=1), n_inputs=1)
        for _ in range(jobs)
    ]
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for submitted in [pool.submit(ledger.submit, job) for job in made]:
            submitted.result()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--threads", type=int, default=16)
    wanted = parser.parse_args()
    with ExitStack() as stack:
        server = RedisServer(append_only=True, has_port=True)
        stack.callback(server.remove)
        replica = RedisServer("--replicaof", "127.0.0.1", str(server.port))
        stack.callback(replica.remove)
        farm = stack.enter_context(connect(server.url))
        client = stack.enter_context(raw_client(server.url))
        while not (client.set("any", 1) and client.wait(1, 1000)):
            pass  # the replica is not there yet
        rounds: list[list[float]] = []  # in turns, so that other load on the machine affects all alike
        for _ in range(ROUNDS):
            took: list[float] = []
            for promise in PROMISES:
                client.config_set("appendfsync", promise.appendfsync)
                ledger = Ledger(farm, acknowledge=promise.acknowledge)
                took += [seconds(ledger, wanted.jobs, threads) for threads in (1, wanted.threads)]
            rounds.append(took)
    table = Table("acknowledge", "appendfsync", "one by one", f"{wanted.threads} threads")
    table.title = f"Time to write a job, against memory and everysec, median of {ROUNDS} rounds"
    for row, promise in enumerate(PROMISES):
        ratios = [median(took[2 * row + i] / took[i] for took in rounds) for i in range(2)]
        table.add_row(promise.acknowledge, promise.appendfsync, *(f"{ratio:.2f}" for ratio in ratios))
    Console().print(table)


if __name__ == "__main__":
    main()
