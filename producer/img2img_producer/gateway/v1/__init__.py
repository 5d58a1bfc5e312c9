"""The farm's own API."""

from fastapi import APIRouter, Depends

from img2img_producer.gateway.access import visitor

router = APIRouter(prefix="/v1", dependencies=[Depends(visitor)])
