"""A real farm for one test: Redis with an append-only file, worker processes, a folder store, a producer."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import redis
from PIL import Image

from img2img_producer import Farm
from img2img_shared.job import ImageState
from img2img_shared.ledger.connect import connect
from img2img_shared.records import Event, ImageStatus, JobStatus
from img2img_shared.settings import Settings
from tests.eventually import PATIENCE, eventually
from tests.processes import ended_unless_ready
from tests.servers import raw_client, server_program

#: seconds: short, so that tests are; the farm's guarantee is in leases, not in seconds
LEASE = 2.0
ROOT = Path(__file__).parents[2]


def picture(number: int, size: int = 64) -> bytes:
    """A PNG, different for each number."""
    ramp = Image.radial_gradient("L").resize((size, size)).rotate(10 * number)
    data = io.BytesIO()
    Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180 + number))).save(data, "PNG")
    return data.getvalue()


class ForkServer:
    """Forks workers, see fork_server.py."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.faults.fork_server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C is for the tests, not for the workers
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )
        with ended_unless_ready(self._process):
            assert self._answer() == "ready"

    def fork(self, **wanted: Any) -> int:
        """A new worker's process id."""
        with self._lock:
            assert self._process.stdin is not None
            print(json.dumps(wanted), file=self._process.stdin, flush=True)
            return int(self._answer())

    def exit_status(self, pid: int) -> int:
        """Exit status of a worker that has ended, or is about to; a negative one is the signal's number."""
        with self._lock:
            assert self._process.stdin is not None
            print(pid, file=self._process.stdin, flush=True)
            return int(self._answer())

    def close(self) -> None:
        """End the server; the workers stay."""
        self._process.communicate()  # closes its input, and waits

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Server:
    """A Redis that writes everything to disk, on a port of its own, to be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        program = server_program()
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        options += [
            "--set-proc-title",
            "no",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--maxmemory-policy",
            "noeviction",
        ]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *options], stdout=log, stderr=subprocess.STDOUT, process_group=0
            )
        with ended_unless_ready(self._process):
            eventually("Redis answers", lambda: connect(self.url)).close()

    def client(self) -> redis.Redis:
        """A client of its own."""
        return raw_client(self.url)

    @property
    def pid(self) -> int:
        """Of the process that runs now, or ran last."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """As a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()


class Worker:
    """A worker process."""

    def __init__(self, pid: int, log: Path, fork_server: ForkServer) -> None:
        self.pid = pid
        self.log = log
        self._fork_server = fork_server
        self._status: int | None = None

    def signal(self, name: str) -> None:
        """Send SIGname; none if it has ended."""
        if self._status is None:
            os.kill(self.pid, signal.Signals[f"SIG{name}"])

    def said(self, text: str) -> bool:
        """Whether its log contains a text."""
        return self.log.exists() and text in self.log.read_text()

    @property
    def alive(self) -> bool:
        """Whether the process still runs (or is frozen)."""
        return self._status is None and self._state() != "Z"

    @property
    def stopped(self) -> bool:
        """Whether it is frozen."""
        return self._state() == "T"

    @property
    def exit_status(self) -> int:
        """Its exit status, once it has ended; a negative one is the number of the signal that ended it."""
        if self._status is None:
            eventually(f"worker {self.pid} ends", lambda: not self.alive)
            self._status = self._fork_server.exit_status(self.pid)
        return self._status

    @property
    def resident(self) -> int:
        """Bytes of memory that it holds."""
        return memory_of(self.pid, "VmRSS")

    @property
    def most_resident(self) -> int:
        """Most bytes of memory that it has held."""
        return memory_of(self.pid, "VmHWM")

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]


def memory_of(pid: int, what: str) -> int:
    """Bytes of an entry of /proc/PID/status; 0: the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


class FaultyFarm:
    """Everything that one test needs, ended with it, except for a Redis that the caller gives."""

    def __init__(
        self,
        folder: Path,
        fork_server: ForkServer,
        checkpoint: Path,
        store_url: str | None = None,
        redis_url: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        #: of its processes, beside what every one has
        self.environment = environment or {}
        self.folder = folder
        self.model = str(checkpoint)
        self.server = Server(folder)
        if redis_url is None:
            self.server.start()
        self.redis_url = redis_url or self.server.url
        self.store_url = store_url or str(folder / "store")
        self.workers: list[Worker] = []
        self._fork_server = fork_server
        self.settings = Settings(
            redis_url=self.redis_url, store_url=self.store_url, data_dir=folder / "data", lease=LEASE
        )
        self.producer = Farm(settings=self.settings)

    def worker(
        self,
        *,
        model: str | None = None,
        slots: int = 2,
        log_level: str = "info",
        environment: dict[str, str] | None = None,
        options: Sequence[str] = (),
        **faults: dict[str, Any],
    ) -> Worker:
        """Start a worker.

        Args:
            model: "": all that the worker may have.
            faults: names of functions in fault_injection.py, with their arguments.
        """
        log = self.folder / f"worker-{len(self.workers)}.log"
        if "arm" in faults:
            faults["arm"] = {"marker": str(self.folder / "struck"), "after": 1, **faults["arm"]}
        pid = self._fork_server.fork(
            out=str(log),
            log=str(log),
            environment={
                "IMG2IMG_LEASE": str(LEASE),
                "IMG2IMG_DATA_DIR": str(self.settings.data_dir),
                "IMG2IMG_STORE_URL": self.store_url,
                "IMG2IMG_REDIS_URL": self.redis_url,
                **self.environment,
                **(environment or {}),
            },
            arguments=[
                *("img2img-worker", *(() if model == "" else ("--model", model or self.model))),
                *("--slots", str(slots), "--log-level", log_level, *options),
            ],
            faults=faults,
        )
        worker = Worker(pid, log, self._fork_server)
        self.workers.append(worker)
        return worker

    def submit(self, n: int, **parameters: Any) -> str:
        """A job of `n` small, quick images."""
        chosen = {"steps": 4, "width": 64, "height": 64, "seed": 1, "model": self.model, **parameters}
        return self.producer.submit([picture(number) for number in range(n)], **chosen)

    def submit_many(self, n: int, **parameters: Any) -> str:
        """A job of `n` images of one input."""
        return self.submit(1, images_per_input=n, **parameters)

    def command_line(self, *arguments: str, tenant: str = "default") -> subprocess.CompletedProcess[str]:
        """Run ``img2img ARGUMENTS`` as a process of its own."""
        said = {
            "IMG2IMG_REDIS_URL": self.redis_url,
            "IMG2IMG_STORE_URL": self.store_url,
            "IMG2IMG_TENANT": tenant,
            "COLUMNS": "100",
            **self.environment,
        }
        out, error = (self.folder / f"said-{uuid.uuid4().hex}" for _ in range(2))
        pid = self._fork_server.fork(
            out=str(out), log=str(error), environment=said, arguments=["img2img", *arguments], faults={}
        )
        code = Worker(pid, error, self._fork_server).exit_status
        answer = subprocess.CompletedProcess(arguments, code, out.read_text(), error.read_text())
        out.unlink()
        error.unlink()
        return answer

    def status(self, job: str) -> JobStatus:
        """Where it stands."""
        return self.producer.status(job)

    def done(self, job: str, patience: float = PATIENCE) -> JobStatus:
        """A job's status, once every image of it has ended."""

        def ended() -> JobStatus | None:
            status = self.status(job)
            return status if status.finished else None

        status: JobStatus = eventually(f"job {job} ends", ended, patience)
        return status

    def struck(self) -> bool:
        """Whether the armed fault has happened."""
        return (self.folder / "struck").exists()

    def attempts(self, job: str) -> list[int]:
        """Of each image."""
        return [image.attempt for image in self.images(job)]

    def images(self, job: str) -> list[ImageStatus]:
        """The state of each image of a job, by the ledger only, so that the job may be of any version."""
        found: list[ImageStatus] = []
        while more := self.producer._service.ledger.images(job, self.producer.tenant, len(found)):
            found += more
        return found

    def finishes(self, job: str) -> list[int]:
        """How often each image was reported done, by the job's events."""
        counts = [0] * self.status(job).n
        for event in self.events(job):
            if event.index is not None and event.state == ImageState.DONE:
                counts[event.index] += 1
        return counts

    def events(self, job: str) -> list[Event]:
        """All events that the ledger still has, which are about 1000."""
        found: list[Event] = []
        while more := self.producer._service.ledger.events(
            job, self.producer.tenant, after=found[-1].id if found else "0"
        ):
            found += more
        return found

    def pictures(self, job: str) -> dict[int, bytes]:
        """The pictures in the store, each decoded once to check that it is whole."""
        found = {}
        for result in self.producer.results(job, wait=False):
            if result.reason is None:
                found[result.index] = result.read()
                with Image.open(io.BytesIO(found[result.index])) as image:
                    image.load()
        return found

    def reasons(self, job: str) -> dict[int, str]:
        """The reasons why images failed."""
        return {image.index: image.reason for image in self.images(job) if image.reason}

    def close(self) -> None:
        """End everything."""
        for worker in self.workers:
            worker.signal("KILL")
        for worker in self.workers:
            assert worker.exit_status is not None
        self.producer.close()
        if self.redis_url == self.server.url:
            self.server.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.workers)
