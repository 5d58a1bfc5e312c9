"""The gateway's metrics: requests, and the farm's demand."""

import logging
import time
from collections.abc import Iterable

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from img2img_shared.errors import Unavailable
from img2img_shared.ledger import Ledger
from img2img_shared.metrics import LONG

log = logging.getLogger(__name__)

#: what is counted of paths that no route has, so that callers cannot make up labels
_NO_ROUTE = "none"

_REQUESTS = Counter("img2img_http_requests", "Requests that were answered.", ["method", "route", "status"])
_SECONDS = Histogram(
    "img2img_http_request_seconds",
    "Time until a request was answered whole; streams last as long as their job.",
    ["method", "route"],
    buckets=LONG,
)
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class CountRequests:
    """Middleware: counts requests by route, not by path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = _template(scope)
            _REQUESTS.labels(method, route, status).inc()
            _SECONDS.labels(method, route).observe(time.perf_counter() - begun)


def _template(scope: Scope) -> str:
    """The path with names in place of values: ``/v1/jobs/{job}``."""
    route, path = scope.get("route"), scope["path"]
    # a route knows its own part of the path, without that of the router which it was included in
    starts = [place for place, sign in enumerate(path) if sign == "/"]
    if (
        route is None
        or (start := next((at for at in starts if route.path_regex.match(path[at:])), None)) is None
    ):
        return _NO_ROUTE
    return f"{path[:start]}{route.path}"


class FarmCollector(Collector):
    """The farm's demand, read from the ledger when metrics are asked for."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus' client; without Redis, the ledger's metrics are missing."""
        answers = GaugeMetricFamily("img2img_ledger_up", "1: the ledger answers.")
        try:
            demand, unfinished, workers = (
                self._ledger.demand(),
                self._ledger.unfinished(),
                self._ledger.workers(),
            )
        except Unavailable as error:
            log.warning("metrics of the farm are missing: %s", error)
            answers.add_metric([], 0)
            yield answers
            return
        answers.add_metric([], 1)
        yield answers
        images = GaugeMetricFamily(
            "img2img_farm_images",
            "Images of all jobs that have not ended: waiting, to be tried again later, or running.",
            labels=["model", "state"],
        )
        for each in demand:
            images.add_metric([each.model, "waiting"], each.waiting)
            images.add_metric([each.model, "later"], each.later)
            images.add_metric([each.model, "running"], each.running)
        yield images
        tenants = GaugeMetricFamily(
            "img2img_farm_tenant_images", "Images that have not ended.", labels=["tenant"]
        )
        for tenant, count in unfinished.items():
            tenants.add_metric([tenant], count)
        yield tenants
        living = GaugeMetricFamily("img2img_farm_workers", "Workers that live.", labels=["model", "state"])
        slots = GaugeMetricFamily("img2img_farm_slots", "Slots of the live workers.", labels=["model"])
        for model in sorted({worker.info.model for worker in workers}):
            own = [worker for worker in workers if worker.info.model == model]
            out_of_service = sum(worker.report.trouble is not None for worker in own)
            living.add_metric([model, "in_service"], len(own) - out_of_service)
            living.add_metric([model, "out_of_service"], out_of_service)
            slots.add_metric([model], sum(worker.info.slots for worker in own))
        yield living
        yield slots
