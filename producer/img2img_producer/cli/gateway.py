"""The commands of the gateway: gateway, and key create, list and revoke."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from pydantic import ValidationError

from img2img_gateway.gateway_settings import GatewaySettings
from img2img_gateway.keys import ApiKey, ApiKeys
from img2img_producer.cli.connection import Connection, farm_of
from img2img_producer.cli.renders import AsJson
from img2img_producer.cli.terminal import print_json, say
from img2img_shared.connect import connect
from img2img_shared.errors import Unavailable
from img2img_shared.params import refusal


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(gateway)
    key = typer.Typer(no_args_is_help=True, help="Who may use the gateway: create, list and revoke API keys.")
    for name, command in (("create", create), ("list", list_keys), ("revoke", revoke)):
        key.command(name)(command)
    app.add_typer(key, name="key")


def gateway(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on [IMG2IMG_HOST].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [IMG2IMG_PORT].")] = None,
    api_auth: Annotated[
        str | None, typer.Option(help='As A1111 has it: "user:password,..." [IMG2IMG_API_AUTH].')
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="A page's origin that may call it; may be repeated.")
    ] = None,
) -> None:
    """Serve the farm over HTTP: /v1, and A1111's API under /sdapi/v1. The reference is at /docs.

    Without API keys it answers this machine only.
    """
    try:
        from img2img_gateway.serve import serve
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is missing: pip install 'img2img-farm[gateway]'") from None
    said: Connection = context.obj
    given = {
        "redis_url": said.redis_url,
        "store_url": said.store_url,
        "data_dir": said.data_dir,
        "tenant": said.tenant,
        "host": host,
        "port": port,
        "api_auth": api_auth,
        "cors_origins": cors_origin or None,
    }
    try:
        settings = GatewaySettings.model_validate(
            {name: value for name, value in given.items() if value is not None}
        )
    except ValidationError as error:
        raise refusal(error, "IMG2IMG_") from None
    say(f"the gateway will listen at http://{settings.host}:{settings.port}; its reference: /docs")
    serve(settings)


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="For people: whose it is.", show_default=False)],
    rate: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    quota: Annotated[int | None, typer.Option(min=1, help="Images that may wait or run at a time.")] = None,
    largest: Annotated[int | None, typer.Option(min=1, help="Images of one job.")] = None,
    json: AsJson = False,
) -> None:
    """Make a key for the tenant of --tenant, and print it, this once."""
    with _ring(context) as (ring, tenant):
        key, secret = ring.create(name, tenant, rate=rate, quota=quota, largest=largest)
    if json:
        print_json({**asdict(key), "key": secret})
    else:
        say(f"key {key.id} for tenant {key.tenant}; it is shown this once:")
        typer.echo(secret)


def list_keys(context: typer.Context, json: AsJson = False) -> None:
    """List the keys, without their secrets."""
    with _ring(context) as (ring, _):
        keys = ring.all()
    if json:
        print_json([asdict(key) for key in keys])
    else:
        for key in keys:
            typer.echo(_line(key))


def revoke(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="Its id, as `list` shows it.", show_default=False)],
) -> None:
    """Let a key in no more, at once."""
    with _ring(context) as (ring, _):
        gone = ring.revoke(key)
    typer.echo(f"revoked {_line(gone)}")


@contextmanager
def _ring(context: typer.Context) -> Iterator[tuple[ApiKeys, str]]:
    with farm_of(context) as farm, connect(farm.redis_url) as client:
        yield ApiKeys(client, farm.settings.prefix), farm.tenant


def _line(key: ApiKey) -> str:
    limits = {"a minute": key.rate, "under way": key.quota, "a job": key.largest}
    told = [f"{value} {what}" for what, value in limits.items() if value is not None]
    return f"{key.id} {key.name} (tenant {key.tenant}{''.join(', ' + each for each in told)})"
