"""ComfyUI, by its API: pictures of one prompt go through its nodes in batches of the best size."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


class ComfyPeer:
    def __init__(self, url: str, process: int, checkpoint: str, batches: Sequence[int], pause: float) -> None:
        """
        Args:
            pause: seconds between two looks whether pictures are done.
        """
        self.processes: Sequence[int] = [process]
        self.batch, self.batches = batches[-1], batches
        self._client = httpx.Client(base_url=url, timeout=PATIENCE)
        self._checkpoint, self._pause = checkpoint, pause

    def render(self, wanted: Sequence[Wish]) -> list[bytes]:
        starts = range(0, len(wanted), self.batch)
        asked = [self._ask(wanted[start : start + self.batch]) for start in starts]
        return [picture for each in asked for picture in self._pictures(each)]

    def _ask(self, together: Sequence[Wish]) -> str:
        for wish in together:
            file = {"image": (f"{wish.seed}.png", wish.png, "image/png")}
            self._client.post("/upload/image", files=file, data={"overwrite": "true"}).raise_for_status()
        answer = self._client.post("/prompt", json={"prompt": self._workflow(together)})
        asked: str = answer.raise_for_status().json()["prompt_id"]
        return asked

    def _pictures(self, asked: str) -> list[bytes]:
        while not (history := self._client.get(f"/history/{asked}").json()):
            time.sleep(self._pause)
        made = history[asked]["outputs"]["9"]["images"]
        return [self._client.get("/view", params=each).raise_for_status().content for each in made]

    def _workflow(self, together: Sequence[Wish]) -> dict[str, Any]:
        def node(kind: str, **inputs: Any) -> dict[str, Any]:
            return {"class_type": kind, "inputs": inputs}

        images = {f"in{wish.seed}": node("LoadImage", image=f"{wish.seed}.png") for wish in together}
        batch, *others = images
        for other in others:
            joined = f"{batch}+"
            images[joined] = node("ImageBatch", image1=[batch, 0], image2=[other, 0])
            batch = joined
        return images | {
            "1": node("CheckpointLoaderSimple", ckpt_name=self._checkpoint),
            "2": node("CLIPTextEncode", text=PROMPT, clip=["1", 1]),
            "3": node("CLIPTextEncode", text=NEGATIVE, clip=["1", 1]),
            "5": node("VAEEncode", pixels=[batch, 0], vae=["1", 2]),
            "6": node(
                "KSampler",
                model=["1", 0],
                positive=["2", 0],
                negative=["3", 0],
                latent_image=["5", 0],
                # each picture of a batch has noise of its own
                seed=together[0].seed,
                # it runs all steps that it is given, as the last ones of a longer schedule by the strength
                steps=together[0].calls,
                cfg=CFG_SCALE,
                sampler_name="euler",
                scheduler="normal",
                denoise=min(together[0].calls / together[0].steps, 1),
            ),
            "7": node("VAEDecode", samples=["6", 0], vae=["1", 2]),
            "9": node("SaveImage", images=["7", 0], filename_prefix="peer"),
        }


@contextmanager
def started(
    checkpoint: Path, folder: Path, comfyui: Path, python: Path, device: str, batches: Sequence[int]
) -> Iterator[ComfyPeer]:
    """
    Args:
        comfyui: its folder.
        python: with what it needs, but for its pages.
        batches: to try, the one to start with last.
    """
    port, log = free_port(), folder / "comfyui.log"
    for name in ("in", "out", "temporary", "pages"):
        (folder / name).mkdir()
    models = folder / "models.yaml"
    models.write_text(f"peers:\n  checkpoints: {checkpoint.parent}\n")
    command = [str(python), "main.py", "--port", str(port), "--extra-model-paths-config", str(models)]
    command += ["--input-directory", str(folder / "in"), "--output-directory", str(folder / "out")]
    command += ["--temp-directory", str(folder / "temporary"), "--front-end-root", str(folder / "pages")]
    command += ["--cpu"] if device == "cpu" else []
    with program(command, log, {}, cwd=comfyui) as process:
        url = f"http://127.0.0.1:{port}"
        until(process, lambda: answers(f"{url}/object_info/KSampler"))
        # a poll costs its server and this process milliseconds, which count where a CPU does everything
        yield ComfyPeer(url, process.pid, checkpoint.name, batches, 0.25 if device == "cpu" else 0.005)
