"""Serves the page for browsers: its files, and its addresses."""

import hashlib
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from img2img_gateway.status import links

FOLDER = Path(__file__).with_name("page")
#: what the page may do: nothing but run its own files, and talk to this gateway
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}
_FILES = "/page"
#: what the page shows by itself, so that it can be reloaded and sent to others
_VIEWS = ("/studio", "/workers", "/jobs/{job}")
#: files that are fetched once somebody wants them
_LATER = ("studio",)


def is_page(path: str) -> bool:
    """Whether a path belongs to the page, which holds no user's data and is served to everybody."""
    return path in ("/", *_VIEWS) or path.startswith((f"{_FILES}/", "/jobs/"))


def add_page(app: FastAPI) -> None:
    """Serve the page, at "/" to browsers only."""
    # a name of its own for each version of the files, so that a browser may keep them for good
    address = f"{_FILES}/{_digest()}"
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    page = page.replace("{files}", address).replace("{modules}", _preloads(address))

    async def view() -> Response:
        return HTMLResponse(page, headers=_HEADERS)

    async def home(request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return links()
        return HTMLResponse(page, headers={**_HEADERS, "Vary": "Accept"})

    app.add_api_route("/", home, methods=["GET", "HEAD"], include_in_schema=False)
    for path in _VIEWS:
        app.add_api_route(path, view, methods=["GET", "HEAD"], include_in_schema=False)
    app.mount(address, _PageFiles(directory=FOLDER))


class _PageFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def _files() -> list[Path]:
    return sorted(path for path in FOLDER.rglob("*") if path.is_file())


def _digest() -> str:
    digest = hashlib.sha256()
    for path in _files():
        digest.update(f"{path.relative_to(FOLDER)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _preloads(address: str) -> str:
    """Links that make a browser fetch all modules at once, instead of one after the other."""
    names = [path.relative_to(FOLDER) for path in _files() if path.suffix in (".js", ".mjs")]
    wanted = [name.as_posix() for name in names if name.parts[0] not in _LATER]
    return "\n".join(f'<link rel="modulepreload" href="{address}/{name}">' for name in wanted)
