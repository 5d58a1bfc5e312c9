"""The commands that look after workers: workers, disable, enable, drain."""

from typing import Annotated

import typer

from img2img_producer.cli.farm_choice import farm_of
from img2img_producer.cli.terminal import show_facts, show_workers, worker_facts
from img2img_shared.command_line import AsJson, print_json
from img2img_shared.records import WorkerOrder

Named = Annotated[
    str,
    typer.Argument(
        metavar="WORKER", help="As img2img workers lists it, or its host: all of that.", show_default=False
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    for command in (workers, disable, enable, drain):
        app.command()(command)


def workers(context: typer.Context, json: AsJson = False) -> None:
    """List the live workers: what they serve, what they do, and what is wrong with them."""
    with farm_of(context) as farm:
        found = farm.workers()
    if json:
        print_json([worker_facts(each) for each in found])
    else:
        show_workers(found)


def disable(context: typer.Context, worker: Named, json: AsJson = False) -> None:
    """Stop a worker from claiming images until it is enabled; it finishes those it has."""
    _order(context, worker, WorkerOrder.DISABLE, "claims nothing more", as_json=json)


def enable(context: typer.Context, worker: Named, json: AsJson = False) -> None:
    """Let a disabled worker claim images again."""
    _order(context, worker, None, "claims again", as_json=json)


def drain(context: typer.Context, worker: Named, json: AsJson = False) -> None:
    """Let a worker finish its images and exit; a supervisor may start it again."""
    _order(context, worker, WorkerOrder.DRAIN, "ends when what it has in hand is done", as_json=json)


def _order(
    context: typer.Context, worker: str, order: WorkerOrder | None, told: str, *, as_json: bool
) -> None:
    with farm_of(context) as farm:
        found = farm.order(worker, order)
    text = "\n".join(f"{each} {told}" for each in found)
    show_facts({"workers": found, "order": order}, text, as_json=as_json)
