"""The parts of A1111's web page that programs ask for; there is no such page here."""

from typing import Any

from fastapi import APIRouter

router = APIRouter(tags=["AUTOMATIC1111: lists"])


@router.get("/config", summary="See what Gradio's page has")
async def config() -> dict[str, Any]:
    """Gradio's description of a page, without components."""
    return {"mode": "blocks", "title": "img2img-farm", "components": [], "dependencies": []}


@router.get("/startup-events", summary="See whether Gradio has started")
async def startup_events() -> bool:
    """Gradio's route that says that everything has started."""
    return True
