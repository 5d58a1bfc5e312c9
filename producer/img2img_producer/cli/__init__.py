"""The command line: ``img2img``."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from img2img_producer.cli import gateway, jobs, machines, renders
from img2img_producer.cli.connection import Connection
from img2img_producer.cli.terminal import say
from img2img_shared.errors import FarmError, NotFound, Refused

#: exit status after Ctrl-C
INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (renders, jobs, machines, gateway):
    module.add_commands(app)


@app.callback()
def farm(
    context: typer.Context,
    redis_url: Annotated[
        str | None,
        typer.Option(help="Its Redis: redis://, rediss:// or unix:// [IMG2IMG_REDIS_URL]."),
    ] = None,
    store_url: Annotated[
        str | None, typer.Option(help="Its store: a folder, s3://, gs:// or az:// [IMG2IMG_STORE_URL].")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the farm on this machine alone [IMG2IMG_DATA_DIR].")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose jobs [IMG2IMG_TENANT].")] = None,
) -> None:
    """Render pictures from pictures, with AUTOMATIC1111's parameters, here or on a farm.

    [bold]On this machine, with nothing set up:[/bold]

      img2img render photos/ --out painted/ --prompt "an oil painting"

    [bold]On a farm[/bold], with IMG2IMG_REDIS_URL and IMG2IMG_STORE_URL set:

      img2img submit photos/ --prompt "snow"
      img2img watch JOB
      img2img fetch JOB --out painted/

    Exit status: 0 all images are done, 1 some are not, 2 wrong use, 130 Ctrl-C.
    """
    context.obj = Connection(redis_url=redis_url, store_url=store_url, data_dir=data_dir, tenant=tenant)


def main() -> None:
    """Entry point: one clear line for whatever the farm refuses."""
    # told to stop, it lets go of an embedded farm as on Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except FarmError as error:
        say("\n".join([f"img2img: {error}", *getattr(error, "__notes__", ())]))
        sys.exit(2 if isinstance(error, Refused | NotFound) else 1)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            # all is let go of by now, but for threads that a hanging store keeps: nobody waits for these
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        raise
