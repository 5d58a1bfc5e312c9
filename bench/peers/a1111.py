"""AUTOMATIC1111's web UI, by its API: it handles one request after the other, each of one picture."""

from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.peers.peer import (
    CFG_SCALE,
    NEGATIVE,
    PATIENCE,
    PROMPT,
    Wish,
    answers,
    program,
    until,
)
from tests.servers import free_port

#: the options that it needs to render on a CPU
_ON_CPU = ("--use-cpu", "all", "--no-half", "--no-half-vae", "--precision", "full", "--skip-torch-cuda-test")


class A1111Peer:
    def __init__(self, url: str, process: int) -> None:
        self.processes: Sequence[int] = [process]
        self._url = url

    def render(self, wanted: Sequence[Wish]) -> list[bytes]:
        return [self._rendered(each) for each in wanted]

    def _rendered(self, wish: Wish) -> bytes:
        request = {
            "init_images": [b64encode(wish.png).decode()],
            "prompt": PROMPT,
            "negative_prompt": NEGATIVE,
            "seed": wish.seed,
            "width": wish.side,
            "height": wish.side,
            "steps": wish.steps,
            "denoising_strength": wish.strength,
            "cfg_scale": CFG_SCALE,
            "sampler_name": "Euler",
            "scheduler": "Automatic",
            "save_images": False,
        }
        answer = httpx.post(f"{self._url}/sdapi/v1/img2img", json=request, timeout=PATIENCE)
        return b64decode(answer.raise_for_status().json()["images"][0])


@contextmanager
def started(checkpoint: Path, folder: Path, a1111: Path, device: str) -> Iterator[A1111Peer]:
    """
    Args:
        a1111: its folder, with its Python in ``venv`` there or beside it.
    """
    port, log = free_port(), folder / "a1111.log"
    python = next(place for place in (a1111 / "venv", a1111.parent / "venv") if place.is_dir())
    command = [str(python / "bin" / "python"), "webui.py", "--api", "--nowebui", "--port", str(port)]
    command += ["--ckpt", str(checkpoint), "--no-download-sd-model", "--disable-console-progressbars"]
    command += ["--ui-settings-file", str(folder / "a1111.json"), *(_ON_CPU if device == "cpu" else ())]
    with program(command, log, {"HF_HUB_OFFLINE": "1"}, cwd=a1111) as process:
        url = f"http://127.0.0.1:{port}"
        until(process, lambda: answers(f"{url}/sdapi/v1/options"))
        yield A1111Peer(url, process.pid)
