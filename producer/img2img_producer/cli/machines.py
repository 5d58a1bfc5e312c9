"""The commands that run a farm: worker, up."""

import os
import sys
import time
from typing import Annotated

import typer

from img2img_producer.cli.farm_choice import come_back, farm_of, model_of
from img2img_producer.cli.page import OwnPage
from img2img_producer.cli.render_options import Model
from img2img_shared.command_line import Connection, say
from img2img_shared.errors import Refused
from img2img_shared.farm.model_names import DEFAULT_MODEL
from img2img_shared.interrupts import hold_interrupts
from img2img_shared.ledger.redis_url import read_redis_url

Port = Annotated[
    int, typer.Option(envvar="IMG2IMG_PORT", min=1, max=65535, help="Of the page, on this machine.")
]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    # its options are the worker's own, --help among them
    passes_on = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    for command in (worker, gateway, key):
        app.command(context_settings=passes_on)(command)
    app.command()(up)


def worker(context: typer.Context) -> None:
    """Render for a farm on this machine until stopped; see img2img worker --help.

    [bold]Example[/bold]

      img2img worker --model v1-5 --redis-url redis://farm:6379 --store-url s3://pictures
    """
    said: Connection = context.obj
    if said.tenant:
        raise Refused("tenant", said.tenant, "leave it out: a worker renders for all tenants")
    if said.data_dir:
        raise Refused(
            "data_dir", str(said.data_dir), "leave it out: a worker finds its farm by URLs; see img2img up"
        )
    _become("img2img_worker", said, *context.args)


def gateway(context: typer.Context) -> None:
    """Serve the farm over HTTP, as /v1 and as A1111's API; see img2img gateway --help."""
    _run_gateway(context, "gateway")


def key(context: typer.Context) -> None:
    """Create, list and revoke the API keys of the gateway; see img2img key --help."""
    _run_gateway(context, "key")


def up(context: typer.Context, model: Model = None, port: Port = 7860) -> None:
    """Run the farm of this machine in the foreground until Ctrl-C: Redis, store, a worker, and the page.

    Other shells with the same data folder find it by themselves, and need not wait for the model to load.
    """
    with farm_of(context) as farm:
        if not farm.is_embedded:
            raise Refused(
                "redis_url",
                str(read_redis_url(farm.redis_url)),
                "leave it out: that farm runs already; add a worker to it with img2img worker",
            )
        wanted = model_of(model) or DEFAULT_MODEL
        say(f"loading {wanted} ...")
        with OwnPage(context.obj, port) as page:
            while not farm.serve_by_default(wanted):
                time.sleep(0.2)
            typer.echo(f"IMG2IMG_REDIS_URL={farm.redis_url}")
            typer.echo(f"IMG2IMG_STORE_URL={farm.store_url}")
            sys.stdout.flush()
            at = f", with its page at {page.address}" if page.check() else ""
            render = come_back(context, "render photos/ --out out/")
            say(f"the farm is up{at}; Ctrl-C stops it. In another shell: {render}")
            while True:
                farm.serve_by_default(wanted)  # again, should it have died
                page.check()
                time.sleep(1)


def _run_gateway(context: typer.Context, command: str) -> None:
    _become("img2img_gateway", context.obj, command, *context.args)


def _become(package: str, said: Connection, *words: str) -> None:
    """Let a program take this process' place: its signals and its exit status are what a supervisor sees."""
    os.environ.update(said.environment)
    hold_interrupts()
    os.execv(sys.executable, [sys.executable, "-m", package, *words])  # noqa: S606 (a package of our own)
