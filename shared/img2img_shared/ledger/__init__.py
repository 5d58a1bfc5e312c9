"""What the farm keeps in Redis, jobs and images above all, and everything that talks to it."""

from img2img_shared.ledger.connect import FarmRedis, connect
from img2img_shared.ledger.job_records import IMAGES
from img2img_shared.ledger.ledger import Ledger

__all__ = ["IMAGES", "FarmRedis", "Ledger", "connect"]
