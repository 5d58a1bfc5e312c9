"""The session of a browser: begun with a key, asked about, ended."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from img2img_gateway.access import Caller, Principal, begin_session
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.sessions import clear_session, csrf_token, session_token, set_session

router = APIRouter(prefix="/session", tags=["session"])


class SessionAnswer(BaseModel):
    """Who calls, and what they may."""

    #: whose jobs these are
    tenant: Annotated[str, Field(examples=["default"])]
    #: who it is: the key's name, or the user
    owner: Annotated[str, Field(examples=["laptop"])]
    #: to be sent as X-CSRF-Token with each change; null: there is no session
    csrf: Annotated[str | None, Field(examples=["5feceb66ffc86f38d952786c6d696c79"])]
    #: whether workers may be drained, disabled and enabled
    operates: bool
    #: the highest that a job may have
    priority: Annotated[int, Field(examples=[100])]


class SignedOut(BaseModel):
    """What signing out has ended."""

    #: false: there was no session
    ended: Annotated[bool, Field(examples=[True])]


@router.get("", summary="See who is signed in")
async def session(request: Request, caller: Caller) -> SessionAnswer:
    """Who calls: by a session, a key, or from this machine where nobody needs one."""
    return _answer(caller, session_token(request))


@router.post("", status_code=201, summary="Sign a browser in")
async def sign_in(request: Request, response: Response, caller: Caller) -> SessionAnswer:
    """Begin a session for who shows a key or a password with this request, as with any other.

    Its cookie is sent by pages of this gateway alone. What changes something needs `X-CSRF-Token`, too.
    """
    token = await begin_session(request)
    if token is not None:
        set_session(request, response, token)
    return _answer(caller, token)


@router.delete("", summary="Sign a browser out")
async def sign_out(request: Request, response: Response, services: ServicesDep) -> SignedOut:
    """End the session. Its key stays."""
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
