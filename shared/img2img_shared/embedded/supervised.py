"""Starts or joins a command that a supervisor keeps running for the programs that use it (supervisor.py)."""

import contextlib
import fcntl
import hashlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from img2img_shared.errors import Unavailable

#: bytes; a unix socket's path must fit into 104 (108 on Linux)
_PATH_LIMIT = 100
#: seconds until a command that starts or stops is given up on
_PATIENCE = 120.0


class Supervised:
    """This program's hold on a running command, which runs as long as any program has one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def runs(self) -> bool:
        """Whether the command is still running."""
        return not select.select([self._connection], [], [], 0)[0]  # readable: at its end

    def release(self) -> None:
        """Give up the hold. If nobody else has one, the command has ended when this returns."""
        with self._connection as connection, contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(_PATIENCE)
            connection.recv(1)


class Supervisor:
    """The supervised commands of one data folder, by name.

    Raises:
        Unavailable: the folders for logs, locks and sockets cannot be made, or others could open them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logs, self._locks = folder / "logs", folder / "locks"
        self.run = _run_folder(folder)
        for each in (self._logs, self._locks):
            own_folder(each)

    def keep(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], beside: str | None = None
    ) -> Supervised:
        """A hold on the command called `name`, which is started if it is not running.

        Args:
            environment: variables it gets besides this program's own.
            beside: name of another command that must not end before this one has.

        Raises:
            Unavailable: it cannot be started.
        """
        with _one_at_a_time(self._locks / "start"):
            with contextlib.suppress(OSError):
                return Supervised(self._connection(name))
            _run_folder(self._folder)  # the last supervisor that ended has removed it
            mine, supervisor = socket.socketpair()
            with supervisor, contextlib.ExitStack() as held:
                handed = [supervisor.fileno()]
                if beside is not None:
                    handed.append(held.enter_context(self._connection(beside)).fileno())
                where = (
                    self.run / f"{name}.supervisor",
                    self._locks / name,
                    self.log(name),
                    supervisor.fileno(),
                )
                program = [sys.executable, "-I", str(Path(__file__).with_name("supervisor.py"))]
                subprocess.run(  # noqa: S603  (our own program, with paths of our own)
                    [*program, *map(str, where), *command],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **environment},
                    pass_fds=handed,
                    start_new_session=True,  # Ctrl-C is for the program, not for what it shares
                    check=True,
                )
            try:
                _await_greeting(mine)
            except OSError:
                mine.close()
                raise Unavailable(f"{command[0]} did not start{self.last_words(name)}") from None
            return Supervised(mine)

    def log(self, name: str) -> Path:
        """The file that the command's output goes to."""
        return self._logs / f"{name}.log"

    def last_words(self, name: str, lines: int = 12) -> str:
        """The last lines of the command's log, as the end of a message."""
        path = self.log(name)
        with contextlib.suppress(OSError):
            if last := path.read_text(errors="replace").splitlines()[-lines:]:
                return f"; the end of {path}:\n  " + "\n  ".join(last)
        return f" (its log, {path}, is empty)"

    def _connection(self, name: str) -> socket.socket:
        """A connection to the supervisor of `name`, which has answered.

        Raises:
            OSError: there is none, or it is stopping.
        """
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self.run / f"{name}.supervisor"))
            _await_greeting(connection)
        except OSError:
            connection.close()
            raise
        return connection


def _await_greeting(connection: socket.socket) -> None:
    connection.settimeout(_PATIENCE)
    if connection.recv(1) != b"+":
        raise ConnectionResetError("the supervisor is stopping")


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def own_folder(path: Path) -> None:
    """Make `path` a folder that only this user can open, also if an earlier version left it open.

    Raises:
        Unavailable: it cannot be one.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise Unavailable(f"cannot make {path} a folder of yours alone: {error.strerror}") from None


def _run_folder(folder: Path) -> Path:
    """The folder for sockets: in the data folder, or a shorter path if that one is too long for a socket."""
    run = folder / "run"
    if len(os.fsencode(run / "worker-0123456789ab.supervisor")) > _PATH_LIMIT:
        digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
        # not the TMPDIR of this shell: another one must find it too
        run = Path(f"/tmp/img2img-{os.getuid()}-{digest}")  # noqa: S108  (ours alone, see below)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        run.mkdir(mode=0o700, exist_ok=True)
        found = run.lstat()
    except OSError as error:
        raise Unavailable(f"cannot make the folder {run}: {error.strerror}") from None
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or run.is_symlink():
        raise Unavailable(f"{run} must be a folder of yours that nobody else can open (chmod 700 {run})")
    return run
