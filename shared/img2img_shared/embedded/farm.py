"""The embedded farm: with nothing configured, programs start a Redis and workers of their own.

Programs with the same data folder share them; they end with the last of these programs.
"""

import hashlib
import importlib.util
import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from urllib.parse import quote

from img2img_shared.embedded.server import answers, is_full, server_command
from img2img_shared.embedded.supervised import Supervised, Supervisor, own_folder
from img2img_shared.errors import Refused, Unavailable
from img2img_shared.settings import Settings

log = logging.getLogger(__name__)

#: seconds until it is said that its server is waited for
_PATIENCE = 10.0
#: seconds between two checks that the server runs
_CHECK = 0.5


class EmbeddedFarm:
    """A Redis, a folder store, and a worker for each model asked for, all under ``settings.data_dir``.

    >>> with EmbeddedFarm(Settings(data_dir=Path("/tmp/farm"))) as farm:  # doctest: +SKIP
    ...     farm.redis_url
    'unix:///tmp/farm/run/redis.sock'

    Safe to share between threads.

    Raises:
        Unavailable: the server cannot be started; the message ends with what its log says.
        Refused: a store that a worker's process could not reach.
    """

    def __init__(self, settings: Settings) -> None:
        if (settings.store_url or "").startswith("memory:"):
            raise Refused(
                "store_url",
                settings.store_url,
                "the worker is another process and cannot reach that; give a folder or a URL",
            )
        folder = settings.data_dir.expanduser().absolute()
        self._folder = folder
        self._supervisor = Supervisor(folder)
        self._socket = self._supervisor.run / "redis.sock"
        self.redis_url = f"unix://{quote(str(self._socket))}"
        self.store_url = settings.store_url or str(folder / "store")
        #: what this program was given in code, for the processes that it starts
        given = settings.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        self._environment = {f"IMG2IMG_{name.upper()}": str(value) for name, value in given.items()}
        self._environment["IMG2IMG_METRICS"] = ""  # the program's own listens there
        self._lock = threading.Lock()
        self._is_full = False
        self._workers: dict[str, Supervised] = {}
        #: models whose worker was seen alive: from then on its death is an accident
        self._loaded: set[str] = set()
        for each in ("redis", "store"):
            own_folder(folder / each)
        self._closing = threading.Event()
        self._redis = self._start_server()
        # a thread: who waits for an answer of the server does not supervise meanwhile
        self._keeper = threading.Thread(target=self._keep_server, name="embedded Redis", daemon=True)
        self._keeper.start()

    def serve(self, model: str) -> None:
        """Ensure that there is a worker for `model`. A new one takes time to load.

        A worker that died while it loaded is started once more: what it lacked may be there now.

        Raises:
            Unavailable: the worker's packages are not installed, or the server has ended.
        """
        with self._lock:
            worker = self._workers.get(model)
            if worker is not None and model not in self._loaded and not worker.runs():
                worker.release()
                del self._workers[model]
            if model not in self._workers:
                self._start_worker(model)

    def has_worker(self, model: str) -> bool:
        """Whether this program has asked for a worker for `model`; it may still be loading."""
        with self._lock:
            return model in self._workers

    def supervise(self, model: str, is_served: Callable[[], bool]) -> bool:
        """Check on the server and the model's worker, and restart them; returns whether the worker is ready.

        The server has kept what it was told. A worker waits for it.

        A worker that dies while it loads cannot serve, and its log says why. One that dies later is replaced:
        the ledger knows which images it died on.

        Args:
            is_served: asks the ledger whether a worker for `model` lives.

        Raises:
            Unavailable: the server does not start again, or the worker ended while it loaded; with the last
                lines of the log.
        """
        with self._lock:
            self._restart_server()
            self._tell_of_disk()
            worker = self._workers.get(model)
            if worker is not None and not worker.runs():
                if model not in self._loaded:
                    last_words = self._supervisor.last_words(_worker_name(model))
                    raise Unavailable(f"the worker for {model!r} has ended{last_words}")
                self._loaded.discard(model)
                worker.release()
                self._start_worker(model)
            elif worker is not None and model not in self._loaded and is_served():
                self._loaded.add(model)
            return model in self._loaded

    def close(self) -> None:
        """Release everything; returns when what no other program uses has ended."""
        self._closing.set()
        self._keeper.join()
        with self._lock:
            while self._workers:
                self._workers.popitem()[1].release()
            self._redis.release()

    def __enter__(self) -> "EmbeddedFarm":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_server(self) -> Supervised:
        command = server_command(self._folder / "redis", self._socket)
        server = self._supervisor.keep("redis", command, {})
        patience = time.monotonic() + _PATIENCE
        while not answers(self._socket) and not self._closing.is_set():
            if time.monotonic() > patience:
                patience = math.inf
                log.warning("the embedded Redis does not answer yet%s", self._supervisor.last_words("redis"))
            if not server.runs():
                server.release()
                raise Unavailable(f"the embedded Redis did not start{self._supervisor.last_words('redis')}")
            time.sleep(0.02)
        return server

    def _restart_server(self) -> None:
        if not self._redis.runs():
            log.warning("the embedded Redis has ended; it is started again")
            ended, self._redis = self._redis, self._start_server()
            ended.release()

    def _keep_server(self) -> None:
        """Restart the server whenever it has ended: it was killed, since it ends after its last program."""
        while not self._closing.wait(_CHECK):
            with self._lock:
                try:
                    self._restart_server()
                except Unavailable:  # whoever supervises is told so
                    return

    def _tell_of_disk(self) -> None:
        """Say once that the disk is full and nothing moves, and once that it moves again."""
        before, self._is_full = self._is_full, is_full(self._socket)
        if self._is_full and not before:
            log.warning("the disk of %s takes no writes: nothing goes on until there is room", self._folder)
        elif before and not self._is_full:
            log.warning("the disk of %s takes writes again", self._folder)

    def _start_worker(self, model: str) -> None:
        if importlib.util.find_spec("torch") is None or importlib.util.find_spec("diffusers") is None:
            raise Unavailable("no worker can run here: pip install 'img2img-farm[worker]'")
        command = [sys.executable, "-m", "img2img_worker", "--model", model]
        command += ["--redis-url", self.redis_url, "--store-url", self.store_url]
        command += ["--rebind"]  # no other machine has anything else under its name
        # the server outlives the worker, which puts its images back when it is told to stop
        kept = self._supervisor.keep(_worker_name(model), command, self._environment, beside="redis")
        self._workers[model] = kept


def _worker_name(model: str) -> str:
    return "worker-" + hashlib.sha256(model.encode()).hexdigest()[:12]
