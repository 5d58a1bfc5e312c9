"""A primary and its replica, and how clients find whichever is the primary: one address, or sentinels."""

import contextlib
import socket
import threading
from functools import partial
from typing import Any, Self

from tests.eventually import eventually
from tests.servers import RedisServer, Sentinel, free_port, raw_client


class Pair:
    """A primary that writes everything to disk, and a replica that has caught up with it."""

    def __init__(self) -> None:
        self.primary = RedisServer("--repl-diskless-sync-delay", "0", append_only=True, has_port=True)
        self.replica = RedisServer("--replicaof", "127.0.0.1", str(self.primary.port), has_port=True)

    def await_replica(self) -> None:
        """Wait until the replica has everything that the primary has."""
        with raw_client(self.primary.url) as client:
            client.set("last", "word")  # WAIT only waits for writes of its own connection
            eventually("the replica has caught up", lambda: client.execute_command("WAIT", 1, 100))

    def remove(self) -> None:
        """Ends both."""
        self.primary.remove()
        self.replica.remove()


class OneAddress:
    """A pair behind a port that forwards new connections to the primary, and keeps old ones as they are."""

    def __init__(self) -> None:
        self._pair = Pair()
        self._target = self._pair.primary.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._listen, daemon=True).start()

    def promote(self, *, is_followed: bool = True) -> None:
        """The replica becomes the primary, and the old one, with all its connections, a replica of that.

        Args:
            is_followed: or of one that is nowhere, so that it goes on knowing what it knew.
        """
        self._pair.await_replica()
        old, new = self._pair.primary, self._pair.replica
        with raw_client(old.url) as former, raw_client(new.url) as latter:
            latter.execute_command("REPLICAOF", "NO", "ONE")
            self._target = new.port
            port = new.port if is_followed else free_port()
            former.execute_command("REPLICAOF", "127.0.0.1", str(port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._pair.remove()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


class ThreeSentinels:
    """A pair that three sentinels watch."""

    def __init__(self) -> None:
        self._pair = Pair()
        self._pair.await_replica()
        port = self._pair.primary.port
        self._sentinels = [Sentinel(port, quorum=2) for _ in range(3)]
        places = ",".join(f"127.0.0.1:{each.port}" for each in self._sentinels)
        self.url = f"sentinel://{places}/0?master_name=farm"
        for each in self._sentinels:
            eventually("it knows the others and the replica", partial(_knows_all, each))

    def kill_primary(self) -> None:
        """Kill the primary, as a power cut would."""
        self._pair.await_replica()
        self._pair.primary.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sentinels:
            each.remove()
        self._pair.remove()


def _knows_all(sentinel: Sentinel) -> bool:
    with raw_client(f"redis://127.0.0.1:{sentinel.port}") as client:
        masters: Any = client.sentinel_masters()
    known = masters["farm"]
    return (known["num-other-sentinels"], known["num-slaves"]) == (2, 1)
