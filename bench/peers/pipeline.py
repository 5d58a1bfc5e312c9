"""diffusers' img2img pipeline, with the cheapest batch size, in a process of its own."""

import io
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from PIL import Image

from bench.peers.peer import CFG_SCALE, NEGATIVE, PROMPT, Wish, program, until


class PipelinePeer:
    def __init__(self, connection: Connection, process: int, batches: Sequence[int]) -> None:
        self.processes: Sequence[int] = [process]
        self.batch, self.batches = batches[-1], batches
        self._connection = connection

    def render(self, wanted: Sequence[Wish]) -> list[bytes]:
        self._connection.send((self.batch, list(wanted)))
        pictures: list[bytes] = self._connection.recv()
        return pictures


@contextmanager
def started(
    checkpoint: Path, configuration: Path, folder: Path, device: str, batches: Sequence[int], mode: str
) -> Iterator[PipelinePeer]:
    """
    Args:
        configuration: a folder in the diffusers layout of a checkpoint of that kind.
        batches: to try, the one to start with last.
        mode: "eager" or "compiled", which takes a minute for each batch.
    """
    address = str(folder / f"{mode}.socket")
    command = [sys.executable, "-m", "bench.peers.pipeline", address, str(checkpoint), str(configuration)]
    log = folder / f"diffusers-{mode}.log"
    with program([*command, device, mode], log, {}) as process:
        connections: list[Connection] = []
        until(process, partial(_connected, address, connections))
        with connections[0] as connection:
            yield PipelinePeer(connection, process.pid, batches)


def _connected(address: str, connections: list[Connection]) -> bool:
    """Try to connect, and say if that worked: the socket exists before the process listens."""
    with suppress(FileNotFoundError, ConnectionRefusedError):
        connections.append(Client(address))
    return bool(connections)


def _serve(address: str, checkpoint: str, configuration: str, device: str, mode: str) -> None:
    pipeline = _opened(checkpoint, configuration, device)
    if mode == "compiled":
        _compile(pipeline)
    with Listener(address) as listener, listener.accept() as connection:
        while True:
            try:
                batch, wanted = connection.recv()
            except EOFError:
                return
            with ThreadPoolExecutor() as threads:  # so that the next batch need not wait for PNG encoding
                files = [
                    threads.submit(_png, picture)
                    for start in range(0, len(wanted), batch)
                    for picture in _rendered(pipeline, wanted[start : start + batch], device)
                ]
            connection.send([file.result() for file in files])


def _opened(checkpoint: str, configuration: str, device: str) -> Any:
    """The pipeline, loaded as in diffusers' documentation: in float16 on a GPU."""
    import diffusers
    import torch

    is_xl = Path(configuration, "text_encoder_2").is_dir()
    kind: Any = (
        diffusers.StableDiffusionXLImg2ImgPipeline if is_xl else diffusers.StableDiffusionImg2ImgPipeline
    )
    dtype = torch.float32 if device == "cpu" else torch.float16
    pipeline = kind.from_single_file(checkpoint, config=configuration, local_files_only=True, dtype=dtype).to(
        device
    )
    # seeded weights need no float32, nor do some of the published ones
    pipeline.vae.register_to_config(force_upcast=False)
    if is_xl:
        pipeline.vae.enable_slicing()  # one such picture keeps a GPU busy, and many would take its memory
    pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _compile(pipeline: Any) -> None:
    """Compile as in diffusers' documentation, the UNet with CUDA graphs."""
    import torch

    for network in (pipeline.unet, pipeline.vae):
        network.to(memory_format=torch.channels_last)
    pipeline.unet.compile(mode="reduce-overhead", fullgraph=True, dynamic=False)
    pipeline.vae.decoder.compile(fullgraph=True, dynamic=False)


def _rendered(pipeline: Any, wanted: Sequence[Wish], device: str) -> list[Image.Image]:
    import torch

    made: list[Image.Image] = pipeline(
        prompt=[PROMPT] * len(wanted),
        negative_prompt=[NEGATIVE] * len(wanted),
        image=[Image.open(io.BytesIO(each.png)) for each in wanted],
        # it makes int(strength * steps) calls
        strength=min((wanted[0].calls + 0.5) / wanted[0].steps, 1.0),
        num_inference_steps=wanted[0].steps,
        guidance_scale=CFG_SCALE,
        generator=[torch.Generator(device).manual_seed(each.seed) for each in wanted],
    ).images
    return made


def _png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
