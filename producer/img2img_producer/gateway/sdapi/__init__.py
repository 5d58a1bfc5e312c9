"""AUTOMATIC1111's API, so that programs written for it work unchanged."""

from fastapi import APIRouter, Depends

from img2img_producer.gateway.access import visitor
from img2img_producer.gateway.problems import A1111Document, documented
from img2img_producer.gateway.sdapi.lists import router as lists
from img2img_producer.gateway.sdapi.progress import router as progress
from img2img_producer.gateway.sdapi.renders import router as renders
from img2img_producer.gateway.sdapi.settings import router as settings

router = APIRouter(dependencies=[Depends(visitor)], responses=documented("application/json", A1111Document))
for part in (renders, progress, settings, lists):
    router.include_router(part)
