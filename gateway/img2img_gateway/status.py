"""Routes about the gateway itself, for people and machines, without a key."""

from html import escape
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.readiness import Readiness

router = APIRouter(tags=["the gateway itself"])


class Health(BaseModel):
    """The answer of a running gateway."""

    status: Annotated[str, Field(examples=["ok"])] = "ok"


@router.get("/health", summary="See whether the gateway runs")
async def health() -> Health:
    """Answers as long as the gateway runs; checks nothing else. For a supervisor that restarts it."""
    return Health()


@router.get(
    "/ready",
    summary="See whether it can serve requests",
    responses={503: {"model": Readiness, "description": "Redis or the store is unavailable."}},
)
async def ready(response: Response, services: ServicesDep) -> Readiness:
    """Whether Redis and the store answer; for a load balancer, which avoids this gateway on 503."""
    found = await services.readiness.look()
    response.status_code = 200 if found.ready else 503
    return found


def links() -> HTMLResponse:
    """Links to what there is, for browsers without the page's scripts."""
    return _page(200, "img2img-farm", _LINKS.format(version=version("img2img-farm")))


def no_such_page(path: str) -> HTMLResponse:
    """That there is nothing at an address, for people; status 404."""
    return _page(404, "There is no such page", _NO_SUCH_PAGE.format(path=escape(path)))


def _page(status: int, title: str, content: str) -> HTMLResponse:
    return HTMLResponse(
        _PAGE.format(title=title, content=content),
        status_code=status,
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "Vary": "Accept",
        },
    )


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem }}
dt {{ font-weight: 600 }} dd {{ margin: 0 0 .8rem }} code {{ overflow-wrap: anywhere }}
</style>
<h1>{title}</h1>
{content}
</html>
"""

_NO_SUCH_PAGE = """<p>This farm has nothing at <code>{path}</code>. The address may have been mistyped.</p>
<p><a href="/">The farm's page</a> has the queue and the studio, <a href="/docs">the reference</a> all that
programs can ask for.</p>"""

_LINKS = """<p>This is the gateway (version {version}) of a farm that renders pictures from pictures, with
AUTOMATIC1111's parameters.</p>
<dl>
<dt><a href="/docs">/docs</a></dt>
<dd>The reference of all there is, where calls can be tried out.</dd>
<dt>/v1</dt>
<dd>The farm's own API: upload pictures, follow the job, fetch the results.
<a href="/v1/jobs">Your jobs</a>, <a href="/v1/workers">the workers</a>,
<a href="/v1/models">the models</a>.</dd>
<dt>/sdapi/v1</dt>
<dd>AUTOMATIC1111's API, for programs that were written for it: give them this address.</dd>
<dt><a href="/health">/health</a>, <a href="/ready">/ready</a></dt>
<dd>For machines: whether it runs, and whether Redis and the store answer.</dd>
<dt><a href="/openapi.json">/openapi.json</a></dt>
<dd>The reference as OpenAPI, for generators of clients.</dd>
</dl>"""
