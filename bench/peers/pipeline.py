"""diffusers' StableDiffusionImg2ImgPipeline, at the batch that costs it least, in a process of its own."""

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from PIL import Image

from bench.peers.peer import CFG_SCALE, NEGATIVE, PROMPT, STEPS, STRENGTH, Wish, program, until


class PipelinePeer:
    def __init__(self, connection: Connection, process: int, batch: int) -> None:
        self.processes: Sequence[int] = [process]
        self.batch = batch
        self._connection = connection

    def render(self, wanted: Sequence[Wish]) -> list[bytes]:
        self._connection.send((self.batch, list(wanted)))
        pictures: list[bytes] = self._connection.recv()
        return pictures


@contextmanager
def started(checkpoint: Path, folder: Path, device: str) -> Iterator[PipelinePeer]:
    """The checkpoint's networks as this farm reads them, in diffusers' pipeline."""
    address = str(folder / "pipeline.socket")
    command = [sys.executable, "-m", "bench.peers.pipeline", address, str(checkpoint), device]
    log = folder / "diffusers.log"
    with program(command, log, {}) as process:
        connections: list[Connection] = []
        until(process, log, partial(_connected, address, connections))
        with connections[0] as connection:
            yield PipelinePeer(connection, process.pid, 1)


def _connected(address: str, connections: list[Connection]) -> bool:
    """Its socket is there before anybody listens to it."""
    with suppress(FileNotFoundError, ConnectionRefusedError):
        connections.append(Client(address))
    return bool(connections)


def _serve(address: str, checkpoint: str, device: str) -> None:
    import diffusers
    import torch
    from transformers import CLIPTokenizer

    from img2img_worker.models.checkpoints.loading import open_checkpoint
    from img2img_worker.models.prompts.tokenizer import published_merges
    from tests.checkpoints import pipeline_tokenizer

    dtype = torch.float32 if device == "cpu" else torch.float16
    family: Any = open_checkpoint(checkpoint, device=device, dtype=dtype)
    own = Path(checkpoint).parent / "tokenizer"
    family.unet.register_to_config(sample_size=family.native_side // family.vae_factor)  # a file does not say
    pipeline: Any = diffusers.StableDiffusionImg2ImgPipeline(
        unet=family.unet,
        vae=family.vae.network.to(dtype),
        text_encoder=_text_encoder(family.texts[0].model).to(device, dtype),
        tokenizer=CLIPTokenizer.from_pretrained(own)
        if own.is_dir()
        else pipeline_tokenizer(published_merges()),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    with Listener(address) as listener, listener.accept() as connection:
        while True:
            try:
                batch, wanted = connection.recv()
            except EOFError:
                return
            pictures: list[bytes] = []
            for start in range(0, len(wanted), batch):
                pictures += _rendered(pipeline, wanted[start : start + batch], device)
            connection.send(pictures)


def _text_encoder(network: Any) -> Any:
    """transformers' own, of the same weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextModel(CLIPTextConfig(**asdict(network.config)))
    text.load_state_dict(network.state_dict())
    return text.eval()


def _rendered(pipeline: Any, wanted: Sequence[Wish], device: str) -> list[bytes]:
    import torch

    made = pipeline(
        prompt=[PROMPT] * len(wanted),
        negative_prompt=[NEGATIVE] * len(wanted),
        image=[Image.open(io.BytesIO(each.png)) for each in wanted],
        strength=STRENGTH,
        num_inference_steps=STEPS,
        guidance_scale=CFG_SCALE,
        generator=[torch.Generator(device).manual_seed(each.seed) for each in wanted],
    ).images
    return [_png(picture) for picture in made]


def _png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
