"""One webhook's request: to an address that was looked up before, and cut off at its deadline."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from img2img_gateway.webhook_targets import Target
from img2img_shared.errors import Unavailable

#: seconds to connect to one address, and for all of a delivery
CONNECT, DELIVERY = 5.0, 15.0


def post(target: Target, body: bytes, headers: dict[str, str]) -> int:
    """Send `body` to the first address that takes a connection; the status of the answer.

    Redirects are not followed, and of the answer nothing is read beyond its headers.

    Raises:
        Unavailable: nobody answers within `DELIVERY` seconds.
    """
    end = time.monotonic() + DELIVERY
    for address in target.addresses:
        connection = _Connection(target, address)
        try:
            connection.timeout = min(CONNECT, max(0.1, end - time.monotonic()))
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message
            raise Unavailable(f"{target.host} has no valid certificate: {why}") from None
        except ssl.SSLError as error:
            raise Unavailable(f"{target.host} does not speak TLS: {error.reason}") from None
        except OSError:
            continue
        with _cut_off(connection, end - time.monotonic()):
            status = _exchange(connection, target.path, body, headers)
        if time.monotonic() >= end:  # what was cut off may look like an end
            raise Unavailable(f"{target.host} did not answer within {DELIVERY:g} s")
        if status is None:
            raise Unavailable(f"{target.host} broke off before it answered")
        return status
    raise Unavailable(f"{target.host} takes no connection")


def _exchange(
    connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str]
) -> int | None:
    """The status of the answer; None: there is none, or it is not HTTP."""
    try:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    except (http.client.HTTPException, OSError, ValueError):
        return None


class _Connection(http.client.HTTPConnection):
    """To one address, by a name that it must prove to have."""

    def __init__(self, target: Target, address: str) -> None:
        super().__init__(target.host, target.port)
        self.default_port = 443 if target.scheme == "https" else 80
        self._address = address
        self._is_secure = target.scheme == "https"

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._is_secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)
        self.sock.settimeout(DELIVERY)


@contextmanager
def _cut_off(connection: _Connection, seconds: float) -> Iterator[None]:
    """End `connection` after so many seconds, since a socket's own timeout begins anew with each byte."""
    timer = threading.Timer(max(0.0, seconds), _shut, [connection.sock])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        connection.close()


def _shut(connected: socket.socket) -> None:
    with suppress(OSError):  # it has ended meanwhile
        # by the plain socket's method: TLS' own would take itself out of the other thread's hands
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
