"""The command that says what is wrong with a farm: doctor."""

from dataclasses import asdict

import typer
from rich.text import Text

from img2img_producer.cli.farm_choice import farm_of, settings_of
from img2img_shared.command_line import AsJson, messages, print_json
from img2img_shared.errors import Refused
from img2img_shared.farm.doctor import Finding, Verdict, examine

_SIGNS = {
    Verdict.OK: ("ok", "green"),
    Verdict.ADVICE: ("advice", "yellow"),
    Verdict.WRONG: ("WRONG", "bold red"),
}


def add_commands(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command()(doctor)


def doctor(context: typer.Context, json: AsJson = False) -> None:
    """Look at Redis, store, models, workers and devices, and say what is wrong and what to do.

    Exit status: 0 all is in order, 1 something is wrong.
    """
    settings = settings_of(context)
    if (settings.redis_url is None) != (settings.store_url is None):
        raise Refused(
            "redis_url" if settings.redis_url is None else "store_url",
            None,
            "give both URLs for a farm of several machines, or neither for this machine alone",
        )
    if settings.redis_url is None or settings.store_url is None:
        with farm_of(context) as farm:  # it runs meanwhile
            found = list(examine(settings, farm.redis_url, farm.store_url))
    else:
        found = list(examine(settings, settings.redis_url, settings.store_url))
    if json:
        print_json([asdict(each) for each in found])
    else:
        for each in found:
            messages().print(_line(each), soft_wrap=True)
    raise typer.Exit(any(each.verdict is Verdict.WRONG for each in found))


def _line(finding: Finding) -> Text:
    sign, style = _SIGNS[finding.verdict]
    return Text.assemble((f"{sign:7}", style), f"{finding.part:8} {finding.text}")
