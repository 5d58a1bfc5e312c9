"""What the farm keeps in Redis, jobs and images above all, and everything that talks to it."""

from img2img_shared.ledger.connect import FarmRedis, connect
from img2img_shared.ledger.ledger import IMAGES, Ledger

__all__ = ["IMAGES", "FarmRedis", "Ledger", "connect"]
