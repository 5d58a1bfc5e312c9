"""The farm as an assistant has it: the official client, over standard input and output."""

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import CallToolResult, ImageContent, TextContent

from tests.integration.gateway import FakeWorker, Gateway, picture

SMALL = {"width": 64, "height": 64, "steps": 2}


@pytest.fixture
def server(gateway: Gateway) -> StdioServerParameters:
    """How an assistant starts it, on a farm that it knows by its URL."""
    environment = {**os.environ, "IMG2IMG_FARM_URL": gateway.url}
    return StdioServerParameters(command=sys.executable, args=["-m", "img2img", "mcp"], env=environment)


def said(result: CallToolResult) -> str:
    """The words of an answer that is no error."""
    texts = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
    assert not result.is_error, texts
    return texts


def test_an_assistant_repaints_a_picture(
    server: StdioServerParameters, fake_worker: FakeWorker, tmp_path: Path
) -> None:
    (tmp_path / "cat.png").write_bytes(picture(1))

    async def use() -> None:
        async with Client(stdio_client(server)) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert {"submit", "wait", "fetch", "preview", "jobs", "cancel", "parameters"} <= set(tools)
            assert all(tool.description for tool in tools.values())

            async def call(tool: str, **arguments: Any) -> CallToolResult:
                return await client.call_tool(tool, arguments)

            assert "denoising" in said(await call("parameters", search="denoising_strength"))
            cat = str(tmp_path / "cat.png")
            asked = {
                "pictures": [cat],
                "prompt": "a cat",
                "parameters": SMALL,
                "model": "m",
            }
            status = json.loads(said(await call("submit", **asked)))
            job = status["id"]
            assert (status["state"], status["n"]) == ("pending", 1)
            assert "nothing is done yet" in said(await call("fetch", job=job))
            assert json.loads(said(await call("wait", job=job, seconds=0)))["done"] == 0
            waiting = asyncio.ensure_future(call("wait", job=job))
            await asyncio.to_thread(fake_worker.work)
            assert json.loads(said(await waiting))["state"] == "done"
            fetched = await call("fetch", job=job, folder=str(tmp_path / "out"))
            saved = (tmp_path / "out" / "cat.png").read_bytes()
            shown = [part for part in fetched.content if isinstance(part, ImageContent)]
            assert [(each.mime_type, base64.b64decode(each.data)) for each in shown] == [("image/png", saved)]
            assert "cat.png is picture 1 of this answer" in said(fetched)
            assert job in said(await call("jobs"))

            refused = await call("submit", pictures=["/nowhere.png"])
            assert refused.is_error
            assert "/nowhere.png" in str(refused.content)
            refused = await call("submit", pictures=[cat], parameters={"stepz": 1})
            assert "steps" in str(refused.content)  # which is what was meant

    asyncio.run(use())
