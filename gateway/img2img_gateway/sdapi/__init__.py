"""AUTOMATIC1111's API, so that programs written for it work unchanged."""

from fastapi import APIRouter, Depends

from img2img_gateway.access import principal
from img2img_gateway.problems import A1111Document, documented
from img2img_gateway.sdapi.control_detect import router as control_detect
from img2img_gateway.sdapi.control_lists import router as control_lists
from img2img_gateway.sdapi.extras import router as extras
from img2img_gateway.sdapi.lists import router as lists
from img2img_gateway.sdapi.option_routes import router as settings
from img2img_gateway.sdapi.page import router as page
from img2img_gateway.sdapi.progress_routes import router as progress
from img2img_gateway.sdapi.renders import router as renders
from img2img_gateway.sdapi.unavailable import router as unavailable

#: A1111's clients post JSON without saying so, too
router = APIRouter(
    strict_content_type=False,
    dependencies=[Depends(principal)],
    responses=documented("application/json", A1111Document),
)
for part in (renders, extras, progress, settings, lists, control_lists, control_detect, page, unavailable):
    router.include_router(part)
