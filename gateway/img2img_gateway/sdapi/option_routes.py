"""``options``: the settings that a tenant has chosen."""

from typing import Any

from fastapi import APIRouter

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.sdapi.tenant_options import Options

router = APIRouter(prefix="/sdapi/v1", tags=["AUTOMATIC1111: settings"], route_class=JsonRoute)


@router.get("/options", summary="See your settings")
async def get_options(caller: Caller, services: ServicesDep) -> dict[str, Any]:
    """The caller's settings."""
    return await Options(services.farm, caller.tenant).all()


@router.post("/options", summary="Change your settings")
async def set_options(body: dict[str, Any], caller: Caller, services: ServicesDep) -> dict[str, Any]:
    """Change settings for the caller's tenant; what GET shows may always be sent back."""
    await Options(services.farm, caller.tenant).change(body)
    return {}


@router.post("/refresh-checkpoints", summary="Refresh the checkpoints")
@router.post("/refresh-vae", summary="Refresh the VAEs")
@router.post("/refresh-loras", summary="Refresh the LoRAs")
@router.post("/refresh-embeddings", summary="Refresh the textual inversions")
async def refresh() -> None:
    """Does nothing: the lists of workers' files are always fresh."""


@router.post("/unload-checkpoint", summary="Unload the checkpoint")
@router.post("/reload-checkpoint", summary="Reload the checkpoint")
async def nothing_to_load() -> dict[str, Any]:
    """Does nothing: which checkpoint a worker has loaded is the farm's decision."""
    return {}
