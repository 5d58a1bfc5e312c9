"""The reference at ``/docs``: examples for endpoints whose models have none of their own."""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from fastapi import FastAPI


def add_examples(app: FastAPI) -> None:
    """Add the examples of ``reference_examples.json`` to the OpenAPI document of `app`."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _lay_in(_examples(), make())
        return make()

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation does it


def _lay_in(examples: Mapping[str, dict[str, Any]], document: dict[str, Any]) -> None:
    for name, example in examples.items():
        method, _, path = name.partition(" ")
        operation = document["paths"][path][method.lower()]
        if "request" in example:
            for content in operation["requestBody"]["content"].values():
                content["example"] = example["request"]
        if "response" in example:
            answers = (answer for status, answer in operation["responses"].items() if status.startswith("2"))
            next(answers)["content"]["application/json"]["example"] = example["response"]


def _examples() -> dict[str, dict[str, Any]]:
    text = files("img2img_gateway").joinpath("reference_examples.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found
