"""What OpenAPI says of the server holds: schemathesis asks what it allows, and what it does not."""

import httpx
import pytest

from tests.server.started import Served

schemathesis = pytest.importorskip("schemathesis")


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
    """A few cases of each operation, with all checks; thousands are a trial of soak/."""
    from hypothesis import HealthCheck, settings

    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    failures: list[str] = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=4, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        def ask(case: schemathesis.Case) -> None:
            try:
                case.call_and_validate(timeout=60)
            except schemathesis.errors.SchemathesisError as error:
                failures.append(str(error))

        operation.as_strategy()
        from hypothesis import given

        given(case=operation.as_strategy())(ask)()
    assert not failures
