"""A real S3 server process for the tests: moto's."""

import http.client
import re
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from time import monotonic, sleep

from tests.processes import ended_unless_ready


class S3Server:
    """Listens on a free port of this machine; checks no signatures, but supports conditional puts."""

    def __init__(self) -> None:
        self._log = Path(tempfile.mkdtemp(prefix="img2img-s3-")) / "log"
        self.start(port=0)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, port: int) -> None:
        """Starts the server and waits until it says where it listens."""
        command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
        with self._log.open("wb") as log:  # not a pipe: nobody would read its access log
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        with ended_unless_ready(self.process):
            self.port = self._listens_on()

    def _listens_on(self) -> int:
        until = monotonic() + 60
        while not (found := re.search(r"Running on http://127\.0\.0\.1:(\d+)", self._log.read_text())):
            if self.process.poll() is not None or monotonic() > until:
                raise RuntimeError(f"no S3 server for the tests: {self._log.read_text()}")
            sleep(0.02)
        return int(found[1])

    def stop(self) -> None:
        """Ends the server; its data is lost."""
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        """Ends the server and removes its log."""
        self.stop()
        self._log.unlink()
        self._log.parent.rmdir()

    def make_bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"test-{uuid.uuid4().hex}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("PUT", f"/{name}")
        assert connection.getresponse().status == 200
        connection.close()
        return name
