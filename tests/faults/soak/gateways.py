"""Gateways as processes on ports of their own, which may be killed and started again."""

import os
import subprocess
import sys
from pathlib import Path

import httpx

from tests.eventually import eventually
from tests.faults.farm import LEASE, FaultyFarm
from tests.servers import free_port


class Gateway:
    """One of them."""

    def __init__(self, farm: FaultyFarm, name: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = farm.folder / f"{name}.log"
        self._farm = farm
        self.start()

    @property
    def pid(self) -> int:
        """Of the process that runs now, or ran last."""
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "img2img_gateway", "gateway", "--port", str(self.port)],
                cwd=Path(__file__).parents[3],
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C is for the soak
                env={
                    **os.environ,
                    "IMG2IMG_REDIS_URL": self._farm.redis_url,
                    "IMG2IMG_STORE_URL": self._farm.store_url,
                    "IMG2IMG_LEASE": str(LEASE),
                },
            )
        eventually("the gateway answers", self._answers)

    def signal(self, name: int) -> None:
        """Send it a signal."""
        self._process.send_signal(name)

    def wait(self) -> int:
        """Wait until it has ended; its exit status."""
        return self._process.wait()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        if self._process.poll() is not None:  # Redis was away just now
            self.start()
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.TransportError:
            return False
