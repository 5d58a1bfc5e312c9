"""The client of an img2img farm, and its command line."""

from img2img_producer.async_client import AsyncFarm
from img2img_producer.client import Farm
from img2img_producer.inputs import Picture
from img2img_producer.results import Result

__all__ = ["AsyncFarm", "Farm", "Picture", "Result"]
