"""A browser's session: sign in with a key, see who is signed in, sign out."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from img2img_gateway.access import Caller, Principal, begin_session
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.sessions import clear_session, csrf_token, session_token, set_session
from img2img_gateway.v1.api_model import ApiModel

router = APIRouter(prefix="/session", tags=["session"])


class SessionAnswer(ApiModel):
    """Who is calling, and what they may do."""

    tenant: Annotated[str, Field(examples=["default"])]
    """The tenant whose jobs the caller sees."""
    owner: Annotated[str, Field(examples=["laptop"])]
    """The name of the caller's key, or the user's name."""
    csrf: Annotated[str | None, Field(examples=["5feceb66ffc86f38d952786c6d696c79"])]
    """To send as X-CSRF-Token with each request that changes something; null: there is no session."""
    operates: bool
    """Whether the caller may drain, disable and enable workers."""
    priority: Annotated[int, Field(examples=[100])]
    """The highest priority that the caller's jobs may have."""


class SignedOut(ApiModel):
    """The answer to signing out."""

    ended: Annotated[bool, Field(examples=[True])]
    """Whether a session was ended; false: there was none."""


@router.get("", summary="See who is signed in")
async def session(request: Request, caller: Caller) -> SessionAnswer:
    """Who is calling: by a session, by a key, or from the gateway's own machine where no key is needed."""
    return _answer(caller, session_token(request))


@router.post("", status_code=201, summary="Sign a browser in")
async def sign_in(request: Request, response: Response, caller: Caller) -> SessionAnswer:
    """Begin a session for the key or password that this request has, as any other request would have it.

    Browsers send the session's cookie from this gateway's own pages only. Requests that change something must
    send the answer's `csrf` as `X-CSRF-Token`, too.
    """
    token = await begin_session(request)
    if token is not None:
        set_session(request, response, token)
    return _answer(caller, token)


@router.delete("", summary="Sign a browser out")
async def sign_out(request: Request, response: Response, services: ServicesDep) -> SignedOut:
    """End the session. Its key stays valid."""
    token = session_token(request)
    if token is not None:
        await services.farm.call(services.sessions.end, token)
        clear_session(request, response)
    return SignedOut(ended=token is not None)


def _answer(caller: Principal, token: str | None) -> SessionAnswer:
    key = caller.key
    return SessionAnswer(
        tenant=caller.tenant,
        owner=caller.owner,
        csrf=None if token is None else csrf_token(token),
        operates=caller.operates,
        priority=100 if key is None or key.priority is None else key.priority,
    )
