"""The commands that look after the store: storage, orphans, clean."""

from dataclasses import asdict
from typing import Annotated

import typer

from img2img_producer.cli.farm_choice import farm_of
from img2img_producer.cli.terminal import show_facts, show_table
from img2img_shared.command_line import AsJson, print_json, say
from img2img_shared.durations import write_duration
from img2img_shared.farm.store_janitor import Cleaned


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    for command in (storage, orphans, clean):
        app.command()(command)


def storage(context: typer.Context, json: AsJson = False) -> None:
    """Show what each tenant has in the store, as the farm's janitor found it last."""
    with farm_of(context) as farm:
        found = farm.storage()
    if json:
        print_json([{**asdict(each), "bytes": each.bytes} for each in found])
        return
    rows = [
        (each.tenant or "(of all tenants)", *map(size, (each.bytes, each.inputs, each.results, each.since)))
        for each in found
    ]
    show_table(("tenant", "in all", "inputs", "results", "uploaded since"), rows, "nothing is stored yet")


def orphans(context: typer.Context, json: AsJson = False) -> None:
    """List jobs, of any tenant, of which only the store has something: forgotten, or lost with a Redis."""
    with farm_of(context) as farm:
        found = list(farm.orphans())
        if not found and not json:
            say("no orphans")
        for each in found:
            text = f"{each.id} {each.pictures} picture{'' if each.pictures == 1 else 's'}, {size(each.bytes)}"
            show_facts(asdict(each), text, as_json=json)


def clean(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say only what would be removed.")] = False,
    uploads: Annotated[
        str | None,
        typer.Option(help="How long pictures stay that no job names: 7d, 0s, ... [IMG2IMG_KEEP_UPLOADS]."),
    ] = None,
    orphans: Annotated[
        str | None,
        typer.Option(help="How long jobs stay listed that only the store knows [IMG2IMG_KEEP_ORPHANS]."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Remove from the store what nobody needs, at once: the workers and gateways do it now and then.

    What a job names that has not ended, or is kept, is never removed.

    [bold]Examples[/bold]

      img2img clean --dry-run
      img2img clean --uploads 0s
      img2img clean --orphans 30d
    """
    with farm_of(context) as farm:
        found = farm.clean(uploads=uploads, orphans=orphans, dry_run=dry_run)
    show_facts(asdict(found), _summary(found, dry_run=dry_run), as_json=json)
    if found.held_for and found.bytes:
        say(
            f"pictures that no job names stay for another {write_duration(round(found.held_for))}: Redis is "
            "younger than the store, and may not know all that names them"
        )


def _summary(found: Cleaned, *, dry_run: bool) -> str:
    counts = {"job": found.jobs, "picture": found.pictures, "orphan": found.orphans}
    what = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count]
    if not what:
        return "nothing to remove"
    return f"{'to be removed' if dry_run else 'removed'}: {', '.join(what)}"


def size(count: int) -> str:
    """Bytes as people read them."""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
