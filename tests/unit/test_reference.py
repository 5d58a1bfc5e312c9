"""The reference at /docs: each endpoint has a summary, a description and examples, which are as it says."""

import base64
import io
from collections.abc import Iterator
from typing import Annotated, Any

import jsonschema_rs
import pytest
from PIL import Image
from pydantic import Field, TypeAdapter, ValidationError

from img2img_gateway.app import create_app
from img2img_shared.refusals import refusal
from img2img_shared.settings import Settings

DOCUMENT: dict[str, Any] = create_app().openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
#: what a person can read as it stands
TEXTS = ("application/json", "multipart/form-data", "text/event-stream")


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def is_shown(schema: dict[str, Any]) -> bool:
    """Whether it, or all that it is made of, has examples: pages of /docs are put together from these."""
    schema = resolved(schema)
    if "examples" in schema or "const" in schema:
        return True
    if "items" in schema:
        return is_shown(schema["items"])
    return any(is_shown(each) for each in schema.get("properties", {}).values())


def with_nulls(example: Any, schema: dict[str, Any]) -> Any:
    """FastAPI leaves them out of what it shows."""
    schema = resolved(schema)
    if isinstance(example, list):
        return [with_nulls(each, schema.get("items", {})) for each in example]
    if not isinstance(example, dict):
        return example
    fields = schema.get("properties", {})
    found = {name: with_nulls(value, fields.get(name, {})) for name, value in example.items()}
    return dict.fromkeys(schema.get("required", ())) | found


def contents(operation: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(media type, content) of what is sent, and of what is answered when all went well."""
    found = [operation.get("requestBody", {})]
    found += [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    return [
        (kind, content)
        for each in found
        for kind, content in each.get("content", {}).items()
        if kind in TEXTS
    ]


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_endpoint_has_a_summary_a_description_and_examples(name: str) -> None:
    operation = OPERATIONS[name]
    assert len(operation["summary"].split()) > 2
    assert operation["description"].endswith(".")
    for kind, content in contents(operation):
        assert "example" in content or is_shown(content["schema"]), kind


@pytest.mark.parametrize("name", OPERATIONS)
def test_examples_are_as_the_reference_says(name: str) -> None:
    for kind, content in contents(OPERATIONS[name]):
        schema = {**content.get("schema", {}), "components": DOCUMENT["components"]}
        shown = [content["example"]] if "example" in content else resolved(schema).get("examples", [])
        for example in shown if kind == "application/json" else []:
            jsonschema_rs.validate(schema, with_nulls(example, schema))


@pytest.mark.parametrize(
    ("model", "field"),
    [("JobAnswer", "eta"), ("JobRequest", "tags"), ("WorkerAnswer", "slots"), ("KeyRequest", "quota")],
)
def test_fields_of_our_own_api_are_described(model: str, field: str) -> None:
    described = DOCUMENT["components"]["schemas"][model]["properties"][field]
    assert described["description"].endswith(".")


def texts_in(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        return [
            text for each in (value.values() if isinstance(value, dict) else value) for text in texts_in(each)
        ]
    return [value] if isinstance(value, str) else []


def test_pictures_in_examples_can_be_sent_as_they_stand() -> None:
    pictures = {text for text in texts_in(DOCUMENT) if text.startswith("iVBOR")}
    assert pictures
    for picture in pictures:
        Image.open(io.BytesIO(base64.b64decode(picture, validate=True))).load()


def test_what_a_pattern_asks_for_is_told_in_words() -> None:
    patterns = set(_patterns([DOCUMENT, Settings.model_json_schema()]))
    assert len(patterns) > 10
    for pattern in patterns:
        with pytest.raises(ValidationError) as caught:
            TypeAdapter(Annotated[str, Field(pattern=pattern)]).validate_python("\0")
        assert "text of the form" not in refusal(caught.value).reason


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _patterns(part)
