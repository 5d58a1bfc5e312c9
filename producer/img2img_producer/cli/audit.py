"""The command that says who did what: audit."""

from dataclasses import asdict
from itertools import islice
from typing import Annotated

import typer

from img2img_producer.cli.farm_choice import farm_of
from img2img_producer.cli.terminal import show_facts
from img2img_shared.command_line import AsJson, say
from img2img_shared.errors import one_line


def add_commands(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command()(audit)


def audit(
    context: typer.Context,
    subject: Annotated[
        str | None, typer.Argument(help="A job, worker or key, by its id; else all.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many lines at most.")] = 20,
    json: AsJson = False,
) -> None:
    """List who cancelled, paused, removed, drained, ... what, newest first."""
    with farm_of(context) as farm:
        lines = list(islice(farm.audit(subject), limit))
        if not lines and not json:
            say("nobody has changed anything yet" if subject is None else f"nobody has changed {subject}")
        for line in lines:
            whose = f" of {line.tenant}" if line.tenant else ""
            did = f"{line.action} {line.subject}{whose} {line.detail}".rstrip()
            text = f"{line.at.astimezone():%Y-%m-%d %H:%M:%S}  {one_line(line.by)}: {one_line(did)}"
            show_facts({**asdict(line), "at": line.at.isoformat()}, text, as_json=json)
