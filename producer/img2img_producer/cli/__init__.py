"""The command line: ``img2img``."""

import signal
from importlib.metadata import version
from typing import Annotated

import typer

from img2img_producer.cli import assistants, audit, doctor, jobs, machines, models, renders, store, workers
from img2img_shared.command_line import Connection, DataDir, FarmUrl, RedisUrl, StoreUrl, Tenant, run
from img2img_shared.option_errors import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (renders, jobs, models, store, workers, audit, machines, doctor, assistants):
    module.add_commands(app)


def say_version(wanted: bool) -> None:
    """The version, and nothing else."""
    if wanted:
        typer.echo(f"img2img-farm {version('img2img-farm')}")
        raise typer.Exit


@app.callback()
def farm(
    context: typer.Context,
    farm_url: FarmUrl = None,
    redis_url: RedisUrl = None,
    store_url: StoreUrl = None,
    data_dir: DataDir = None,
    tenant: Tenant = None,
    _: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=say_version),
    ] = False,
) -> None:
    """Render pictures from pictures, with AUTOMATIC1111's parameters, here or on a farm.

    [bold]On this machine, with nothing set up:[/bold]

      img2img render photos/ --out painted/ --prompt "an oil painting"

    [bold]On a farm[/bold], with IMG2IMG_FARM_URL and IMG2IMG_KEY (or the URLs of its Redis and store) set:

      img2img submit photos/ --prompt "snow"
      img2img watch JOB
      img2img fetch JOB --out painted/

    Exit status: 0 all images are done, 1 some are not, 2 wrong use, 130 Ctrl-C.
    """
    context.obj = Connection(
        farm_url=farm_url, redis_url=redis_url, store_url=store_url, data_dir=data_dir, tenant=tenant
    )


def main() -> None:
    """Entry point: one clear line for whatever the farm refuses."""
    # told to stop, it lets go of an embedded farm as on Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run(app)
