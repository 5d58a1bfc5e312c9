"""An HTTP proxy in front of a real S3 server, with the faults of networks and stores."""

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

#: possible faults: S3's own errors by status and code, and missing or broken answers
ERRORS = {
    "refuses": (503, "SlowDown"),
    "is broken": (500, "InternalError"),
    "is full": (507, "InsufficientStorage"),
    "has expired credentials": (403, "ExpiredToken"),
    "lets nobody in": (403, "AccessDenied"),
    "has another clock": (403, "RequestTimeTooSkewed"),
    "is in conflict": (409, "OperationAborted"),
    "has waited in vain": (400, "RequestTimeout"),
}


class FaultyStore(ThreadingHTTPServer):
    """Passes requests on to `endpoint`, except those that the current `fault` hits.

    Faults: a key of `ERRORS`; "is slow"; "breaks off in the middle"; "hangs up", once it has answered;
    "cuts answers short" of GET, or "cuts one answer short"; "knows no conditions", as Backblaze's B2; None.
    """

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(endpoint).netloc
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.fault: str | None = None
        #: requests that it has hit
        self.met = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Not reported: in these tests, clients hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyStore

    def _pass(self) -> None:
        fault = self.server.fault
        length = int(self.headers.get("Content-Length", 0))
        if fault == "breaks off in the middle" and self.command == "PUT":
            self.server.met += 1
            self.rfile.read(length // 2)
            self.close_connection = True
            return
        body = self.rfile.read(length)
        if fault in ERRORS:
            self.server.met += 1
            status, code = ERRORS[fault]
            self._answer(status, {}, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())
            return
        if fault == "knows no conditions" and "If-None-Match" in self.headers:
            self.server.met += 1
            self._answer(501, {}, b"<Error><Code>NotImplemented</Code></Error>")
            return
        if fault == "is slow":
            self.server.met += 1
            time.sleep(1.5)
        upstream = http.client.HTTPConnection(self.server.target, timeout=30)
        upstream.request(self.command, self.path, body, dict(self.headers))
        answer = upstream.getresponse()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _OWN}
        self._answer(answer.status, headers, self._cut(answer.read()))
        upstream.close()

    def _cut(self, body: bytes) -> bytes:
        """A truncated object, with a content length that fits the truncated part."""
        is_cut = self.server.fault == "cuts one answer short" and not self.server.met
        if self.command != "GET" or not (is_cut or self.server.fault == "cuts answers short"):
            return body
        self.server.met += 1
        return body[: len(body) // 2]

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if self.server.fault == "hangs up":
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass  # noqa: N815  # the base class' names

    def log_message(self, *_: object) -> None:
        """Log nothing on the tests' output."""


_OWN = ("content-length", "transfer-encoding", "connection", "server", "date")
