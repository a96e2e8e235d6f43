"""What OpenAPI says of the server holds: schemathesis asks what it allows, and what it does not."""

import httpx

from soak.fuzz import fuzz
from tests.server.started import Served


def test_every_route_is_described(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert {"/v1/classify", "/v1/caption", "/v1/rank", "/v1/embed", "/v1/experts", "/v1/detect", "/v1/segment",
            "/v1/model", "/v1/models", "/v1/embeddings", "/v2/models/{name}/infer", "/health", "/ready", "/metrics",
            } <= described["paths"].keys()  # fmt: skip
    for path, methods in described["paths"].items():
        for route in methods.values():
            assert route["description"], path
            assert {"401", "503"} <= route["responses"].keys(), path


def test_answers_are_as_described(served: Served) -> None:
    """A few cases of each operation, with all checks but one; more are a trial of soak/."""
    assert served.url
    assert fuzz(served.url, examples=4) > 30
