"""Everything the farm keeps in Redis, above all jobs and images, and the code that talks to Redis."""

from img2img_shared.ledger.connect import FarmRedis, connect
from img2img_shared.ledger.job_records import IMAGES
from img2img_shared.ledger.ledger import Ledger

__all__ = ["IMAGES", "FarmRedis", "Ledger", "connect"]
