"""The page that comes with `img2img up`."""

import subprocess
import sys
from pathlib import Path

import httpx

from tests.eventually import eventually
from tests.processes import running
from tests.servers import free_port


def answers(port: int) -> bool:
    try:
        page = httpx.get(f"http://127.0.0.1:{port}/", headers={"Accept": "text/html"})
    except httpx.TransportError:
        return False
    return "main.js" in page.text


def test_a_farm_of_ones_own_has_a_page_as_long_as_it_runs(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "img2img", "--data-dir", str(tmp_path), "up", "--port", str(port)]
    with running(command, stderr=subprocess.DEVNULL) as up:
        eventually("the page is there", lambda: answers(port))
        up.kill()  # it could not end anything itself
        eventually("the page has gone", lambda: not answers(port))
