"""The command by which assistants use the farm: mcp."""

import typer

from img2img_producer.cli.farm_choice import settings_of
from img2img_shared.errors import FarmError


def add_commands(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command()(mcp)


def mcp(context: typer.Context) -> None:
    """Let an assistant use the farm: a server of the Model Context Protocol on standard input and output.

    [bold]Example[/bold], in the assistant's configuration:

      {"mcpServers": {"img2img": {"command": "img2img", "args": ["mcp"]}}}
    """
    try:
        from img2img_producer.mcp_server import mcp_server
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "mcp":
            raise
        raise FarmError("the package mcp is not installed: pip install 'img2img-farm[mcp]'") from None
    mcp_server(settings_of(context)).run()
