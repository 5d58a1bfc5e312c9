"""The farm's own API."""

from fastapi import APIRouter, Depends

from img2img_gateway.access import principal
from img2img_gateway.problems import Document, documented
from img2img_gateway.v1.administration import router as administration
from img2img_gateway.v1.event_stream import router as events
from img2img_gateway.v1.farm_events import router as farm_events
from img2img_gateway.v1.image_details import router as image_details
from img2img_gateway.v1.infotexts import router as infotexts
from img2img_gateway.v1.inputs import router as inputs
from img2img_gateway.v1.job_control_routes import router as job_control
from img2img_gateway.v1.jobs import router as jobs
from img2img_gateway.v1.machines import router as machines
from img2img_gateway.v1.parameters import router as parameters
from img2img_gateway.v1.pushed_models import router as pushed_models
from img2img_gateway.v1.results import router as results
from img2img_gateway.v1.session import router as session
from img2img_gateway.v1.stored import router as stored
from img2img_gateway.v1.submit_routes import router as submissions
from img2img_gateway.v1.thumbnails import router as thumbnails
from img2img_gateway.v1.webhooks import router as webhooks

router = APIRouter(
    prefix="/v1",
    dependencies=[Depends(principal)],
    responses=documented("application/problem+json", Document),
)
for part in (
    submissions,
    jobs,
    job_control,
    thumbnails,
    image_details,
    inputs,
    infotexts,
    parameters,
    results,
    events,
    farm_events,
    machines,
    pushed_models,
    webhooks,
    session,
    stored,
    administration,
):
    router.include_router(part)
