"""OpenAI's image API: programs that were written for it are given this gateway's address and ``/openai/v1``.

Its images are under ``/v1``, too, where its list of models is the farm's own, in another shape.
"""

from fastapi import APIRouter, Depends

from img2img_gateway.access import principal
from img2img_gateway.openai.images import router as images
from img2img_gateway.openai.models import router as models
from img2img_gateway.problems import OpenAiDocument, documented

router = APIRouter(
    dependencies=[Depends(principal)], responses=documented("application/json", OpenAiDocument)
)
router.include_router(images, prefix="/openai/v1")
router.include_router(models, prefix="/openai/v1")
router.include_router(images, prefix="/v1", include_in_schema=False)
