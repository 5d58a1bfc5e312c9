"""The farm as tools of an assistant, by the Model Context Protocol over standard input and output."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from img2img_producer.async_client import AsyncFarm
from img2img_shared.errors import FarmError, Refused
from img2img_shared.job import ImageState
from img2img_shared.param_reference import description
from img2img_shared.params import Params
from img2img_shared.records import JobStatus
from img2img_shared.settings import Settings

#: pictures in one answer: an assistant looks at each
PICTURES = 8

_INSTRUCTIONS = (
    "Repaints pictures with Stable Diffusion on a render farm. `submit` starts a job and returns its id at "
    "once; `wait` follows it, `fetch` shows its pictures and saves them, `preview` shows one on its way. "
    "Parameters are AUTOMATIC1111's, by name: `parameters` lists them. denoising_strength says how much "
    "changes: 0.3 keeps the picture, 0.75 keeps its composition."
)

P = ParamSpec("P")
T = TypeVar("T")

Job = Annotated[str, Field(description="A job's id, as submit returned it.")]


def mcp_server(settings: Settings) -> MCPServer[Any]:
    """A server of one farm, which it opens with its first client.

    Args:
        settings: as a `Farm` takes them.
    """
    farm = AsyncFarm(settings=settings)

    @asynccontextmanager
    async def opened(_: MCPServer[Any]) -> AsyncIterator[None]:
        async with farm:
            yield

    server: MCPServer[Any] = MCPServer(
        "img2img-farm",
        title="img2img render farm",
        instructions=_INSTRUCTIONS,
        version=version("img2img-farm"),
        lifespan=opened,
        log_level="WARNING",
    )
    tools = _Tools(farm)
    facts = (tools.submit, tools.wait, tools.jobs, tools.cancel, tools.retry, tools.models, tools.parameters)
    for tool in facts:
        server.tool()(_telling(tool))
    for shows in (tools.fetch, tools.preview):
        server.tool(structured_output=False)(_telling(shows))
    return server


class _Tools:
    """What an assistant can do. Their docstrings are what it reads."""

    def __init__(self, farm: AsyncFarm) -> None:
        self._farm = farm

    async def submit(
        self,
        pictures: Annotated[list[str], Field(description="Files on this machine, each repainted.")],
        prompt: Annotated[str, Field(description="What is to be seen.")] = "",
        negative_prompt: Annotated[str, Field(description="What is not to be seen.")] = "",
        denoising_strength: Annotated[float, Field(ge=0, le=1)] = 0.5,
        mask: Annotated[str | None, Field(description="A file: white is repainted, black stays.")] = None,
        parameters: Annotated[dict[str, Any] | None, Field(description="Any others, by name.")] = None,
        model: Annotated[str | None, Field(description="One of `models`; none: the farm's own.")] = None,
        name: Annotated[str | None, Field(description="For people, to find the job by.")] = None,
    ) -> dict[str, Any]:
        """Begin to repaint pictures; returns the job's id at once."""
        if not pictures:
            raise Refused("pictures", pictures, "give at least one file")
        given = {
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "denoising_strength": denoising_strength,
            **(parameters or {}),
        }
        job = await self._farm.submit(
            [Path(each).expanduser() for each in pictures],
            params=given,
            mask=mask and Path(mask).expanduser(),
            model=model,
            name=name,
        )
        return _as_json(await self._farm.status(job))

    async def wait(
        self,
        job: Job,
        context: Context[Any, Any],
        seconds: Annotated[float, Field(ge=0, le=3600, description="At most so long.")] = 300,
    ) -> dict[str, Any]:
        """Wait until a job has ended, or for some seconds; returns where it stands then."""
        status = await self._farm.status(job)
        try:
            async with asyncio.timeout(seconds):
                async for status in self._farm.watch(job):
                    done = status.done + status.failed
                    await context.report_progress(done, status.n, f"{done} of {status.n} images")
        except TimeoutError:
            pass
        return _as_json(status)

    async def fetch(
        self,
        job: Job,
        first: Annotated[int, Field(ge=0, description="Index of the first picture to show.")] = 0,
        limit: Annotated[int, Field(ge=0, le=PICTURES, description="Pictures to show.")] = 4,
        folder: Annotated[str | None, Field(description="Save all that are done here, too.")] = None,
    ) -> list[Any]:
        """Show pictures of a job that are done, and save them all to a folder if one is given."""
        told: list[str] = []
        shown: list[Image] = []
        async for result in self._farm.results(job, wait=False):
            if result.reason is not None:
                told.append(f"{result.index} {result.name} failed: {result.reason}")
                continue
            if folder is not None:
                path = await asyncio.to_thread(result.save, Path(folder).expanduser())
                told.append(f"{result.index} saved as {path}")
            if result.index >= first and len(shown) < limit:
                data = await asyncio.to_thread(result.read)
                kind = Path(result.name).suffix.removeprefix(".").replace("jpg", "jpeg")
                shown.append(Image(data=data, format=kind))
                told.append(f"{result.index} {result.name} is picture {len(shown)} of this answer")
        return ["\n".join(told) or "nothing is done yet: wait for it", *shown]

    async def preview(self, job: Job, index: Annotated[int, Field(ge=0)] = 0) -> list[Any]:
        """Show an image on its way, small; none where its steps have not begun."""
        data = await self._farm.preview(job, index)
        return (
            ["no preview yet: ask again in a few seconds"]
            if data is None
            else [Image(data=data, format="jpeg")]
        )

    async def jobs(
        self,
        search: Annotated[str | None, Field(description="In their names or ids.")] = None,
        limit: Annotated[int, Field(ge=1, le=100)] = 20,
    ) -> list[dict[str, Any]]:
        """List jobs, newest first."""
        return [_as_json(each) for each in await self._farm.jobs(limit, search=search)]

    async def cancel(self, job: Job) -> str:
        """End a job: what is done stays."""
        return f"{await self._farm.cancel(job)} images are not rendered"

    async def retry(self, job: Job) -> str:
        """Give a job's failed images another chance."""
        images = self._farm.images(job)
        reasons = {str(each.reason) async for each in images if each.state is ImageState.FAILED}
        return "\n".join(
            [f"{await self._farm.retry(job)} images again; they had failed by:", *sorted(reasons)]
        )

    async def models(self) -> list[dict[str, Any]]:
        """List the workers that live, and the checkpoints that they serve."""
        return [
            {
                "model": each.info.model,
                "device": each.info.device,
                "running": each.running,
                "trouble": each.report.trouble,
            }
            for each in await self._farm.workers()
        ]

    async def parameters(
        self, search: Annotated[str, Field(description="In names and descriptions; empty: all.")] = ""
    ) -> dict[str, str]:
        """List the parameters that `submit` takes, each with what it does and its default."""
        wanted = search.casefold()
        found = {
            name: f"{description(name)} (default {field.get_default(call_default_factory=True)!r})"
            for name, field in Params.model_fields.items()
        }
        return {name: text for name, text in found.items() if wanted in name or wanted in text.casefold()}


def _as_json(status: JobStatus) -> dict[str, Any]:
    """What is known of a job, as JSON has it."""
    facts = {**asdict(status), "state": str(status.state)}
    facts |= {name: str(facts[name]) for name in ("created", "started", "finished") if facts[name]}
    return {name: value for name, value in facts.items() if value is not None}


def _telling(tool: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """`tool`, whose refusals the assistant reads; of other errors it is told only that there was one."""

    @wraps(tool)
    async def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await tool(*args, **kwargs)
        except FarmError as error:
            raise ToolError(str(error)) from error

    return told
