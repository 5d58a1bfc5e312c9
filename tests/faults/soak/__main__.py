"""Random faults against a farm under continuous mixed load, and an account of every image at the end.

python -m tests.faults.soak [--minutes 10] [--workers 3] [--clients 4] [--seed 1]

Clients submit by Python, by HTTP, and as A1111's do; each keeps its own account of what was acknowledged. At
the end every finished picture is compared with the same image rendered alone. It exits with 1 if anything was
lost, done twice, or another picture, if anything failed of what was not injected, or if a process grew.
"""

import argparse
import logging
import os
import random
import shutil
import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import redis
from rich.console import Console
from rich.table import Table

from img2img_gateway.api_keys import ApiKeys
from img2img_shared.ledger.connect import connect
from img2img_shared.store import Store
from tests.checkpoints import sd1
from tests.eventually import eventually
from tests.faults.farm import FaultyFarm, ForkServer, Server, memory_of
from tests.faults.soak.alone import Alone
from tests.faults.soak.clients import Account, Client, PythonClient, SynchronousClient, UploadClient
from tests.faults.soak.gateways import Gateway
from tests.faults.soak.memory import Memory
from tests.faults.soak.recipes import Recipes
from tests.faults.soak.reckoning import Reckoning
from tests.faults.soak.saboteur import Saboteur
from tests.reaper import watch_over_this_process

#: seconds between two faults
CALM = (1.0, 4.0)
#: findings that are printed in full
TOLD = 40


def clients(
    farm: FaultyFarm, gateways: list[Gateway], account: Account, wanted: argparse.Namespace
) -> list[Client]:
    """The clients: half of them use Python, a quarter each our HTTP API and A1111's."""
    recipes = Recipes(wanted.seed)
    with connect(farm.redis_url) as redis:
        ring = ApiKeys(redis, Store(farm.store_url))
        keys = {tenant: ring.create("soak", tenant)[1] for tenant in ("default", "synchronous")}
    urls = [each.url for each in gateways]
    found: list[Client] = []
    for number in range(wanted.clients):
        seed = wanted.seed + number
        if number % 2 == 0:
            found.append(PythonClient(account, recipes, seed, farm.settings, farm.model))
        elif number % 4 == 1:
            found.append(UploadClient(account, recipes, seed, urls, keys["default"], farm.model))
        else:  # with a tenant of its own, whose jobs only its calls know
            found.append(SynchronousClient(account, recipes, seed, urls, keys["synchronous"], farm.model))
    return found


def soak(
    farm: FaultyFarm, alone: Alone, wanted: argparse.Namespace, console: Console
) -> tuple[Table, list[str]]:
    """Inject faults until the time is over or Ctrl-C; the account as a table, and the findings."""
    began = time.monotonic()
    account = Account()
    with ExitStack() as closing:
        struck, peaceful = Gateway(farm, "gateway-struck"), Gateway(farm, "gateway")
        closing.callback(struck.close)
        closing.callback(peaceful.close)
        running = clients(farm, [struck, peaceful], account, wanted)
        worker = farm.worker()  # no fault hits this one: its memory is watched
        saboteur = Saboteur(farm, wanted.workers, struck, account, wanted.seed)
        memory = Memory(
            worker=lambda: memory_of(worker.pid, "VmRSS"),
            gateway=lambda: memory_of(peaceful.pid, "VmRSS"),
            Redis=lambda: held_by(farm.server),
            clients=lambda: memory_of(os.getpid(), "VmRSS"),
        )
        for client in running:
            client.start()
        try:
            eventually("a job is there", lambda: account.acknowledged or account.errors)
            chance = random.Random(wanted.seed)
            with console.status("soaking"):
                while time.monotonic() < began + 60 * wanted.minutes and not account.errors:
                    time.sleep(chance.uniform(*CALM))
                    saboteur.strike()
                    memory.look()
        except KeyboardInterrupt:
            console.print("stopped: what there is by now")
        with console.status("waiting for all clients and jobs to end"):
            for client in running:
                client.stop()
            for client in running:
                client.join()
            reckoning = Reckoning(farm, account, saboteur.cancelled)
            reckoning.await_end()
    with console.status("rendering each image alone"):
        alone.render(reckoning.wanted())
    reckoning.settle(alone)
    growths = memory.growths()
    reckoning.wrong += [f"{each.process} grows: {each}" for each in growths if each.grows]
    minutes = (time.monotonic() - began) / 60
    table = Table("what", "count", title=f"{minutes:.1f} minutes, {len(account.acknowledged)} jobs")
    counts = {**reckoning.counts, **{f"asked again by {who}": n for who, n in account.refused.items()}}
    counts |= {f"fault: {fault}": n for fault, n in sorted(saboteur.committed.items())}
    for what, count in counts.items():
        table.add_row(what, f"{count:,}")
    for growth in growths:
        table.add_row(f"memory of {growth.process}: middle third, last third", str(growth))
    return table, reckoning.wrong


def held_by(server: Server) -> int:
    """Bytes of Redis' data, not of its process, which after a restart is larger from loading them."""
    try:
        with server.client() as client:
            return int(client.info("memory")["used_memory_dataset"])
    except redis.RedisError:
        return 0


def keep_logs(folder: Path, console: Console) -> None:
    """Keep the programs' logs of a soak that has found something."""
    kept = Path(tempfile.mkdtemp(prefix="img2img-soak-"))
    for log in folder.glob("*.log"):
        shutil.copy(log, kept)
    console.print(f"the logs are in {kept}")


def main() -> None:
    """Soak, account, and say what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    console = Console()
    logging.disable(logging.WARNING)  # the clients warn of each fault
    watch_over_this_process()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background: so would workers
        signal.signal(signal.SIGINT, signal.default_int_handler)
    fork_server = ForkServer()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            checkpoint = sd1(folder / "checkpoint")
            with (
                FaultyFarm(folder, fork_server, checkpoint) as farm,
                Alone(folder / "alone", fork_server, checkpoint) as alone,
            ):
                try:
                    table, wrong = soak(farm, alone, wanted, console)
                except BaseException:
                    keep_logs(folder, console)
                    raise
                if wrong:
                    keep_logs(folder, console)
    finally:
        fork_server.close()
    console.print(table)
    for each in wrong[:TOLD]:
        console.print(f"[red]{each}[/red]", highlight=False)
    if wrong:
        console.print(f"{len(wrong)} findings")
        raise SystemExit(1)
    console.print("nothing lost, nothing twice, every picture as it is alone")


if __name__ == "__main__":
    main()
