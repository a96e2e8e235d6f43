"""What OpenAPI says of routes that read their bodies themselves."""

from collections.abc import Sequence
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from uniperceiver.server.http import schema
from uniperceiver.server.http.schema import ErrorAnswer

# That the guard, or a route, may answer with.
STATUSES = (400, 401, 403, 404, 408, 409, 413, 415, 421, 422, 431, 500, 503, 504)
ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in STATUSES}
_QUESTIONS: tuple[type[BaseModel], ...] = (
    schema.ClassifyQuestion,
    schema.CaptionQuestion,
    schema.RankQuestion,
    schema.EmbedQuestion,
    schema.ExpertsQuestion,
    schema.DetectQuestion,
)
_PLACE = "#/components/schemas/{model}"
_BINARY = {"type": "string", "format": "binary"}


def asked_in(kind: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of the body of a question: JSON, or a form with files."""
    fields = {name for name in kind.model_fields if name != "inputs"}
    form: dict[str, Any] = {
        "type": "object",
        "properties": {
            "file": {"type": "array", "items": _BINARY, "description": "pictures, clips or sounds"},
            "input": {"type": "array", "items": {"type": "string"}, "description": "texts that are asked about"},
        },
    }
    for name in sorted(fields):
        lines = " (one on each line, or repeated)" if name in ("labels", "texts") else ""
        form["properties"][name] = {
            "type": "string",
            "description": f"{kind.model_fields[name].description or name}{lines}",
        }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": _PLACE.format(model=kind.__name__)}},
                "multipart/form-data": {"schema": form},
            },
        }
    }


def json_in(kind: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body that is JSON alone."""
    content = {"application/json": {"schema": kind.model_json_schema(ref_template=_PLACE)}}
    content["application/json"]["schema"].pop("$defs", None)  # which `describe` puts where they are looked for
    return {"requestBody": {"required": True, "content": content}}


def describe(app: FastAPI, title: str, version: str, more: Sequence[type[BaseModel]]) -> None:
    """Let an application describe itself with the questions, too.

    Args:
        more: records of other protocols that bodies are read into.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = get_openapi(title=title, version=version, routes=app.routes)
            kinds: list[tuple[type[BaseModel], Literal["validation"]]] = [
                (kind, "validation") for kind in (*_QUESTIONS, *more)
            ]
            _, schemas = models_json_schema(kinds, ref_template=_PLACE)
            described.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])
            app.openapi_schema = described
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
