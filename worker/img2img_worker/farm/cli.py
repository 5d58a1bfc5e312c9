"""The worker's command line."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from pydantic import ValidationError

from img2img_shared.errors import FarmError, Refused
from img2img_shared.file_hashes import FileHashes
from img2img_shared.interrupts import end_on_interrupt, hold_interrupts
from img2img_shared.refusals import refusal
from img2img_shared.settings import DEVICES, SIZES, Settings
from img2img_worker.farm.allocator import use_one_heap
from img2img_worker.farm.device_processes import REFUSED, DeviceProcesses
from img2img_worker.farm.lean_import import import_diffusers, without_collection
from img2img_worker.farm.logs import log_to_stderr
from img2img_worker.farm.read_ahead import read_ahead

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _slots(text: str) -> int | str:
    if text == "auto":
        return text
    if text.isdecimal() and 1 <= int(text) <= 1024:
        return int(text)
    raise typer.BadParameter(f"{text!r}: a whole number from 1 to 1024, or auto")


def _devices(text: str) -> str:
    if re.fullmatch(DEVICES, text):
        return text
    raise typer.BadParameter(f"{text!r}: auto, cpu, cuda or cuda:NUMBER, several with commas: cuda:0,cuda:1")


def _sizes(text: str) -> str:
    if re.fullmatch(SIZES, text):
        return text
    raise typer.BadParameter(f"{text!r}: WIDTHxHEIGHT in pixels, several with commas: 512x512,768x512")


def _named(model: str) -> str:
    """The model's name as clients give it, from whatever folder they run in."""
    path = Path(model).expanduser()
    return str(path.absolute()) if ("/" in model or path.suffix) and path.exists() else model


@app.command()
def worker(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Checkpoint: a name in the models folder, a folder in the diffusers layout, or a file. "
            "Repeat it for several: one is on the device at a time, by what waits. By default, all of the "
            "models folder (IMG2IMG_MODELS_DIR), or demo where there is none.",
        ),
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="redis://, rediss://, unix:// or sentinel:// [IMG2IMG_REDIS_URL].")
    ] = None,
    store_url: Annotated[
        str | None, typer.Option(help="Folder, s3://, gs:// or az:// URL [IMG2IMG_STORE_URL].")
    ] = None,
    slots: Annotated[
        Any,
        typer.Option(
            parser=_slots,
            metavar="N|auto",
            help="Images in flight at once, 1 to 1024; auto: the most that pay, found by rendering at start.",
        ),
    ] = None,
    compile: Annotated[
        str | None,
        typer.Option(
            parser=_sizes,
            metavar="WxH,...",
            help="Compile the model at start for pictures of these sizes, such as 512x512,768x512: it takes "
            "minutes, and is meant for GPUs; other sizes run as they do without.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            parser=_devices,
            metavar="NAME,...",
            help="cpu, cuda:1, ...; several with commas. Each has a process of its own, which is started "
            "again if it dies. By default every GPU of this machine, or the CPU where there is none.",
        ),
    ] = None,
    rebind: Annotated[
        bool,
        typer.Option(
            "--rebind",
            help="Let each model's name stand for this checkpoint from now on; workers that have another one "
            "under it end, or go on with their other models.",
        ),
    ] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="How much it tells.")
    ] = "info",
    log_format: Annotated[
        Literal["text", "json"] | None, typer.Option(help="Lines for people, or JSON for programs.")
    ] = None,
) -> None:
    """Render images of the farm at REDIS_URL with one or several checkpoints, until stopped.

    SIGTERM, Ctrl-C and closing its terminal put the images in hand back and end within seconds; other
    workers go on with them.
    """
    settings = _settings(
        redis_url=redis_url,
        store_url=store_url,
        slots=slots,
        device=device,
        compile=compile,
        log_format=log_format,
    )
    log_to_stderr(log_level, as_json=settings.log_format == "json")
    if settings.redis_url is None or settings.store_url is None:
        _refuse(
            "a worker needs a farm: set IMG2IMG_REDIS_URL and IMG2IMG_STORE_URL, or give --redis-url and "
            "--store-url; for a farm on this machine alone, use: img2img up"
        )
    models = [*dict.fromkeys(_named(each) for each in model or ())]
    if "," in settings.device:
        raise typer.Exit(_serve_all(settings.device.split(","), settings.metrics))
    raise typer.Exit(_serve(models, settings.redis_url, settings.store_url, settings, rebind=rebind))


def _refuse(reason: str) -> NoReturn:
    typer.echo(f"img2img worker: {reason}", err=True)
    raise typer.Exit(REFUSED)


def _settings(**given: Any) -> Settings:
    """The environment's settings, overridden by the options that were given."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        _refuse(str(refusal(error, "IMG2IMG_")))


def _serve(models: list[str], redis_url: str, store_url: str, settings: Settings, *, rebind: bool) -> int:
    """Serve `models` here, or with device "auto" in a process for each GPU; returns the exit status."""
    # OpenMP's threads would spin while they wait, and take cores from whatever else runs on the machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # a GPU's kernels take seconds to make: kept where a container or a service keeps what is its own
    os.environ.setdefault("TRITON_CACHE_DIR", str(settings.data_dir / "triton"))
    use_one_heap()
    end_on_interrupt()  # until it serves
    hashes = FileHashes(settings.data_dir / "hashes")
    if len(models) == 1:  # of several, Redis says which one comes first
        read_ahead(models[0], settings.models_dir, hashes)
    try:
        # only now: importing torch takes seconds, which a wrong option must not cost
        with without_collection():
            import_diffusers(compiles=bool(settings.compile))
            from img2img_worker.devices import all_gpus
            from img2img_worker.farm.worker import run
    except ModuleNotFoundError as error:
        _refuse(f"{error.name} is missing: pip install 'img2img-farm[worker]'")
    if settings.device == "auto" and len(gpus := all_gpus()) > 1:
        # as a new program, which need not keep torch in memory beside all those that render
        hold_interrupts()
        words = [*sys.argv[1:], "--device", ",".join(gpus)]
        os.execv(sys.executable, [sys.executable, "-m", "img2img_worker", *words])  # noqa: S606 (ourselves)
    try:
        return run(models, redis_url, store_url, settings, hashes, rebind=rebind)
    except Refused as error:
        _refuse(str(error))
    except FarmError as error:
        typer.echo(f"img2img worker: {error}", err=True)
        return 1


def _serve_all(devices: list[str], metrics: str) -> int:
    """Run a process for each device, with this one's options; returns the exit status."""
    command = [sys.executable, "-m", "img2img_worker", *sys.argv[1:]]  # of two --device the last one counts
    return DeviceProcesses(command, devices, metrics).run()


def main() -> None:
    """Entry point."""
    app(prog_name="img2img worker")
