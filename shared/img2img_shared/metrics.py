"""Serves a program's metrics to Prometheus at `Settings.metrics`.

docs/metrics.md lists names, labels and units; a test compares it with the code.
"""

import contextlib
from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry, Histogram, start_http_server

from img2img_shared.errors import Refused
from img2img_shared.ledger.connect import FarmRedis

#: seconds, upper ends of the buckets of what takes milliseconds, and of what takes minutes
QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG = (
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    25,
    50,
    100,
    250,
    500,
    1000,
    3600,
    6 * 3600,
    24 * 3600,
)


def time_ledger(redis: FarmRedis, registry: CollectorRegistry = REGISTRY) -> None:
    """Measure the duration of the ledger's calls."""
    seconds = Histogram(
        "img2img_ledger_call_seconds",
        "Time of a call to the ledger in Redis, its way there and back included.",
        ["call"],
        buckets=QUICK,
        registry=registry,
    )
    redis.on_call = lambda call, took: seconds.labels(call).observe(took)


@contextlib.contextmanager
def serve_metrics(address: str, registry: CollectorRegistry = REGISTRY) -> Iterator[None]:
    """Within the context, answer ``GET /metrics`` at `address` ("HOST:PORT"); "": nowhere.

    Raises:
        Refused: the program cannot listen at that address.
    """
    if not address:
        yield
        return
    host, _, port = address.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except (OSError, OverflowError) as error:
        raise Refused(
            "metrics", address, f"give a HOST:PORT of this machine that is free ({error})"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
