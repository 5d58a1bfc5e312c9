"""The commands that look after the models in the farm's store: models push, list, pull, rm."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from img2img_producer.cli.farm_choice import farm_of
from img2img_producer.cli.store import size
from img2img_producer.cli.terminal import show_facts, show_table
from img2img_producer.farm_models import KINDS, PushedModel
from img2img_shared.command_line import AsJson, print_json
from img2img_shared.records import WorkerStatus

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Put models into the farm's store, from where workers fetch what jobs name.",
)

Kind = Annotated[str | None, typer.Option(metavar="KIND", help=f"{', '.join(KINDS)}.")]
Wanted = Annotated[str, typer.Argument(metavar="NAME", help="Its name, or its hash.", show_default=False)]


def add_commands(to: typer.Typer) -> None:
    """Add this module's commands to `to`."""
    for command in (push, list_, pull, rm):
        app.command(command.__name__.rstrip("_"))(command)
    to.add_typer(app, name="models")


def push(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A file of weights, or a folder in the diffusers layout.", show_default=False
        ),
    ],
    kind: Kind = None,
    name: Annotated[
        str | None, typer.Option(help="What jobs call it; by default its name, without an ending.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Put a checkpoint, LoRA, VAE, embedding, control network or upscaler into the store, under its SHA-256.

    Workers fetch it for the jobs that name it. What it is, its tensors tell, or --kind. What belongs to a
    checkpoint and lies beside it goes along: NAME.yaml, NAME.vae.safetensors, tokenizer_t5. Broken off, the
    command goes on where it was when it is given again.

    [bold]Examples[/bold]

      img2img models push anime.safetensors
      img2img models push 4x_detail.pth --kind upscaler
      img2img models push stable-diffusion-3.5/
    """
    with farm_of(context) as farm, _Bar() as bar:
        pushed = farm.models.push(path, kind=kind, name=name, progress=bar.show)
    model = pushed.model
    how = "was there already" if pushed.was_there else "is in the store"
    named = f"; workers call it {model.model!r}" if model.model not in ("", model.name) else ""
    beside = f" with {', '.join(each.path for each in model.files)}" if model.ending and model.files else ""
    text = f"{model.kind} {model.name}{beside} {how}: {size(model.total)}, SHA-256 {model.sha256}{named}"
    show_facts({**model.model_dump(), "was_there": pushed.was_there}, text, as_json=json)


def list_(context: typer.Context, json: AsJson = False) -> None:
    """List the models in the store, and how many live workers have each checkpoint at hand."""
    with farm_of(context) as farm:
        found, workers = farm.models.all(), farm.workers()
    if json:
        print_json([{**each.model_dump(), "workers": _having(each, workers)} for each in found])
        return
    rows = []
    latest: set[tuple[str, str]] = set()
    for each in found:
        is_older = (each.kind, each.name) in latest
        latest.add((each.kind, each.name))
        told = f"{each.name} (older)" if is_older else each.name
        at = datetime.fromtimestamp(each.pushed).astimezone()
        having = ", ".join(_having(each, workers)) or "-"
        facts = (size(each.total), f"{at:%Y-%m-%d %H:%M}", each.by)
        rows.append((each.kind, told, each.short_hash, *facts, having))
    head = ("kind", "name", "hash", "size", "pushed", "by", "workers")
    show_table(head, rows, "no models have been pushed (img2img models push FILE)")


def pull(
    context: typer.Context,
    name: Wanted,
    out: Annotated[Path, typer.Option(help="The folder that it is written to.")] = Path(),
    kind: Kind = None,
    json: AsJson = False,
) -> None:
    """Write a model's file, or its folder, into a folder. Broken off, the command goes on where it was."""
    with farm_of(context) as farm, _Bar() as bar:
        path = farm.models.pull(name, out, kind=kind, progress=bar.show)
    show_facts({"path": str(path)}, str(path), as_json=json)


def rm(context: typer.Context, name: Wanted, kind: Kind = None, json: AsJson = False) -> None:
    """Remove a model from the store, unless jobs that have not ended need it."""
    with farm_of(context) as farm:
        model = farm.models.remove(name, kind=kind)
    show_facts(model.model_dump(), f"removed {model.kind} {model.title}", as_json=json)


def _having(model: PushedModel, workers: list[WorkerStatus]) -> list[str]:
    """Workers that have it: on the device, or in their cache."""
    return [
        each.info.id
        for each in workers
        if model.sha256 == each.info.sha256 or model.contents_hash in each.report.fetched
    ]


class _Bar:
    """Shows on a terminal how far a file is."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._what, self._task = "", self._progress.add_task("", visible=False, total=None)

    def show(self, what: str, done: int, of: int) -> None:
        if what != self._what:
            self._progress.remove_task(self._task)
            self._what, self._task = what, self._progress.add_task(what, total=of)
        self._progress.update(self._task, completed=done)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()
