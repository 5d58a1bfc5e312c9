"""Requests made from the OpenAPI document: no answer is a server's error, and each is as documented."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from img2img_gateway.app import create_app
from tests.integration.gateway import PATIENCE, Gateway
from tests.servers import RedisServer


def no_fault_of_ours(
    context: Any, response: schemathesis.Response, case: "schemathesis.Case[Any]"
) -> bool | None:
    """503 says that there is no worker, which is so; any other error of a server is a fault."""
    return response.status_code == 503 or schemathesis.checks.not_a_server_error(context, response, case)


CHECKS = [
    no_fault_of_ours,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """No worker serves it, so that a synchronous render is refused, not waited for; streams soon end."""
    server = RedisServer()
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(import_module("img2img_gateway.v1.farm_events"), "LASTS", 0.0)
        with Gateway(server.url, tmp_path_factory.mktemp("store"), upload_timeout=2) as gateway:
            yield gateway
    server.remove()


schema = schemathesis.openapi.from_dict(create_app().openapi())


@schema.parametrize()
@settings(max_examples=6, suppress_health_check=list(HealthCheck), database=None)
def test_every_answer_is_as_documented(case: "schemathesis.Case[Any]", gateway: Gateway) -> None:
    case.call_and_validate(base_url=gateway.url, checks=CHECKS, timeout=PATIENCE)
