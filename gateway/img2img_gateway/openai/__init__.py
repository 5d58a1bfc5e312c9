"""OpenAI's image API: programs that were written for it are given this gateway's address and ``/v1``."""

from fastapi import APIRouter, Depends

from img2img_gateway.access import principal
from img2img_gateway.openai.images import router as images
from img2img_gateway.problems import OpenAiDocument, documented

router = APIRouter(
    dependencies=[Depends(principal)], responses=documented("application/json", OpenAiDocument)
)
router.include_router(images)
