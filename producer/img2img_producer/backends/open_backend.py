"""Opens the connection to a farm that a URL and the settings mean."""

from pathlib import Path

from img2img_producer.backends.backend import Backend
from img2img_producer.backends.direct import DirectBackend
from img2img_shared.errors import Refused
from img2img_shared.farm.service import FarmService
from img2img_shared.settings import Settings


def farm_settings(
    settings: Settings, url: str | None, store_url: str | Path | None, tenant: str | None, key: str | None
) -> Settings:
    """`settings`, overridden by the arguments; a given Redis wins over a gateway in the settings.

    Args:
        url: a Redis', or http(s):// of a gateway.

    Raises:
        Refused: a gateway with a store.
    """
    is_gateway = url is not None and url.startswith(("http://", "https://"))
    if is_gateway and store_url:
        raise Refused("store_url", str(store_url), f"leave it out: {url} has a store of its own")
    given = {
        "farm_url" if is_gateway else "redis_url": url,
        "store_url": store_url and str(store_url),
        "tenant": tenant,
        "key": key,
    }
    update: dict[str, str | None] = {name: value for name, value in given.items() if value}
    if url and not is_gateway:
        update["farm_url"] = None
    return settings.model_copy(update=update)


def open_backend(settings: Settings, *, outage: float) -> Backend:
    """Connect to the farm of the settings: through its gateway if they name one, else by Redis and store.

    Args:
        outage: seconds for which a submit waits for a Redis that is away.

    Raises:
        Refused: something that is not a URL, or a Redis without a store.
        Unavailable: Redis does not answer, or cannot be started.
    """
    if settings.farm_url is None:
        return DirectBackend(FarmService(settings, outage=outage), settings)
    # not before somebody needs HTTP: importing it takes as long as the rest
    from img2img_producer.backends.gateway_client import GatewayClient
    from img2img_producer.backends.through_gateway import GatewayBackend

    return GatewayBackend(GatewayClient(settings.farm_url, settings.key))
