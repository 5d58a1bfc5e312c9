"""A real farm that renders with the demo checkpoint, its gateway, and a browser.

They end with the folder's tests: while Playwright is there, no other test can run an event loop of its own.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.eventually import eventually
from tests.faults.farm import LEASE, FaultyFarm, ForkServer
from tests.integration.gateway import Gateway
from tests.page.browser import Visit, chromium
from tests.servers import raw_client


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def farm(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyFarm]:
    """A farm whose one worker has the demo checkpoint. After the browser: without one, nothing is started."""
    fork_server = ForkServer()
    with FaultyFarm(tmp_path_factory.mktemp("farm"), fork_server, Path("demo")) as farm:
        farm.worker(environment={"IMG2IMG_PREVIEW_SECONDS": "0.05"})
        eventually("the worker is there", farm.producer.workers)
        yield farm
    fork_server.close()


@pytest.fixture(scope="package")
def gateway(farm: FaultyFarm) -> Iterator[Gateway]:
    with Gateway(farm.server.url, farm.store_url, lease=LEASE) as gateway:
        yield gateway


@pytest.fixture(scope="package")
def bare_gateway(
    browser: Browser, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """The gateway of a farm without workers, for tests that need no picture."""
    with raw_client(redis_server) as client:
        client.flushall()
    with Gateway(redis_server, tmp_path_factory.mktemp("store")) as gateway:
        yield gateway


@pytest.fixture
def visiting(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Makes visits to a gateway's URL; at the end, it checks what `Visit` promises."""
    visits: list[Visit] = []

    def begin(url: str, **options: Any) -> Visit:
        visits.append(Visit(browser, url, **options))
        return visits[-1]

    yield begin
    for each in visits:
        each.close()


@pytest.fixture
def visit(visiting: Callable[..., Visit], gateway: Gateway) -> Callable[..., Visit]:
    """Visits to the real farm."""
    return partial(visiting, gateway.url)
