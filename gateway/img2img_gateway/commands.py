"""The commands of the gateway: gateway, and key create, list and revoke."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from img2img_gateway.api_keys import ApiKey, ApiKeys
from img2img_gateway.gateway_settings import GatewaySettings
from img2img_gateway.key_roles import Role
from img2img_shared.command_line import (
    AsJson,
    Connection,
    DataDir,
    RedisUrl,
    StoreUrl,
    Tenant,
    print_json,
    run,
    say,
)
from img2img_shared.errors import Refused, Unavailable
from img2img_shared.farm.connection import where
from img2img_shared.farm.service import FarmService
from img2img_shared.option_errors import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
key = typer.Typer(no_args_is_help=True, help="Who may use the gateway: create, list and revoke API keys.")
app.add_typer(key, name="key")


@app.callback()
def farm(
    context: typer.Context,
    redis_url: RedisUrl = None,
    store_url: StoreUrl = None,
    data_dir: DataDir = None,
    tenant: Tenant = None,
) -> None:
    """Which farm it is for."""
    context.obj = Connection(redis_url=redis_url, store_url=store_url, data_dir=data_dir, tenant=tenant)


@app.command()
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
    settings = said.settings(
        GatewaySettings, host=host, port=port, api_auth=api_auth, cors_origins=cors_origin or None
    )
    say(f"farm: {where(settings)}")
    say(f"the gateway will listen at http://{settings.host}:{settings.port}; its reference: /docs")
    serve(settings)


@key.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="For people: whose it is.", show_default=False)],
    rate: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    quota: Annotated[int | None, typer.Option(min=1, help="Images that may wait or run at a time.")] = None,
    largest: Annotated[int | None, typer.Option(min=1, help="Images of one job.")] = None,
    priority: Annotated[
        int | None, typer.Option(min=-100, max=100, help="The highest priority of its jobs.")
    ] = None,
    keep: Annotated[str | None, typer.Option(help="How long its jobs are kept, at most: 30d, ...")] = None,
    storage: Annotated[
        int | None, typer.Option(min=1, help="Bytes that its tenant may have in the store.")
    ] = None,
    role: Annotated[
        Role, typer.Option(help="operate: also tell workers what to do; admin: also make keys.")
    ] = Role.SUBMIT,
    json: AsJson = False,
) -> None:
    """Make a key for the tenant of --tenant, and print it, this once."""
    said: Connection = context.obj
    with _ring(context) as (ring, tenant):
        is_first = not ring.exist()
        made, secret = ring.create(
            name,
            tenant,
            by=said.settings(GatewaySettings).owner,
            role=role,
            rate=rate,
            quota=quota,
            largest=largest,
            priority=priority,
            keep=keep,
            storage=storage,
        )
    if is_first:
        say("the farm's first key: from now on its gateways refuse whoever shows none, on this machine too")
    if json:
        print_json({**asdict(made), "key": secret})
    else:
        say(f"key {made.id} for tenant {made.tenant}; it is shown this once:")
        typer.echo(secret)


@key.command("list")
def list_keys(context: typer.Context, json: AsJson = False) -> None:
    """List the keys, without their secrets: whose they are, since when, and when they were used last."""
    with _ring(context) as (ring, _):
        keys, uses = ring.all(), ring.last_uses()
    if json:
        print_json([{**asdict(each), "last_used": uses.get(each.id)} for each in keys])
    else:
        if not keys:
            say("no keys: gateways answer their own machine only (img2img key create NAME)")
        for each in keys:
            used = f"last used {_moment(uses[each.id])}" if each.id in uses else "never used"
            typer.echo(f"{_line(each)}, made {_moment(each.created)}, {used}")


@key.command()
def revoke(
    context: typer.Context,
    key_id: Annotated[
        str, typer.Argument(metavar="KEY", help="Its id, as `list` shows it.", show_default=False)
    ],
) -> None:
    """Let a key in no more, at once."""
    said: Connection = context.obj
    with _ring(context) as (ring, _):
        gone = ring.revoke(key_id, said.settings(GatewaySettings).owner)
    typer.echo(f"revoked {_line(gone)}")


@contextmanager
def _ring(context: typer.Context) -> Iterator[tuple[ApiKeys, str]]:
    said: Connection = context.obj
    settings = said.settings(GatewaySettings)
    if settings.farm_url and settings.redis_url is None:
        # the farm of this machine, which would be meant, is not the one whose URL was named
        reason = (
            "name the farm's Redis and store for its keys, or ask POST /v1/keys with a key of the role admin"
        )
        raise Refused("farm_url", settings.farm_url, reason)
    with FarmService(settings) as service:
        say(f"farm: {service.where}")
        yield ApiKeys(service.redis, service.store), service.settings.tenant


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _line(found: ApiKey) -> str:
    limits = {"a minute": found.rate, "under way": found.quota, "a job": found.largest}
    told = [f"{value} {what}" for what, value in limits.items() if value is not None]
    if found.priority is not None:
        told.append(f"priority up to {found.priority}")
    if found.role is not Role.SUBMIT:
        told.append(f"role {found.role}")
    if found.keep is not None:
        told.append(f"keeps jobs {found.keep}")
    if found.storage is not None:
        told.append(f"{found.storage} bytes in the store")
    return f"{found.id} {found.name} (tenant {found.tenant}{''.join(', ' + each for each in told)})"


def main() -> None:
    """Entry point."""
    run(app)
