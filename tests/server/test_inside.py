"""Experts and boxes over HTTP are those of the library."""

import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests.server.started import TOKEN, Served
from uniperceiver import UniPerceiver, load


@pytest.fixture(scope="module")
def loaded(full: Served) -> UniPerceiver:
    return load(full.run)


@pytest.fixture
def asked(full: Served) -> Iterator[httpx.Client]:
    with full.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client


def test_shares_of_experts_are_those_of_its_gates(
    asked: httpx.Client, loaded: UniPerceiver, pictures: list[bytes]
) -> None:
    files = [("file", ("a.png", data)) for data in pictures[:2]]
    results = asked.post("/v1/experts", files=files).json()["results"]
    decisions = loaded.routing(pictures[:2])
    for place, result in enumerate(results):
        assert len(result["gates"]) == len(decisions) > 2
        for gate, decision in zip(result["gates"], decisions, strict=True):
            valid_N = decision.valid_BN[place]
            weight_NE = decision.weight_BNE[place][valid_N]
            assert (gate["layer"], gate["part"]) == (decision.layer, decision.part)
            assert gate["shares"] == pytest.approx((weight_NE.sum(axis=0) / weight_NE.sum()).tolist(), abs=1e-4)
            assert sum(gate["shares"]) == pytest.approx(1, abs=1e-3)
            assert gate["tokens"] == weight_NE.argmax(axis=1).tolist()
            most = decision.probability_BNE[place][valid_N].max(axis=1).mean()
            assert gate["confidence"] == pytest.approx(float(most), abs=1e-3)


def test_boxes_and_masks_are_the_librarys(asked: httpx.Client, loaded: UniPerceiver, pictures: list[bytes]) -> None:
    labels = ["circle", "square", "cross"]
    fields = {"labels": labels, "task": "shapes", "least": "0", "most": "5"}
    for path, ask in (("/v1/detect", loaded.detect), ("/v1/segment", loaded.segment)):
        (result,) = asked.post(path, files={"file": pictures[0]}, data=fields).json()["results"]
        (expected,) = ask(pictures[0], labels, "shapes", least=0.0, most=5)
        assert (result["height"], result["width"]) == expected.size == (40, 48)
        things = result["detections"]
        assert len(things) == len(expected) == 5
        assert [thing["label"] for thing in things] == expected.labels
        assert np.abs(np.array([thing["box"] for thing in things]) - expected.boxes).max() < 1e-3
        assert np.abs(np.array([thing["score"] for thing in things]) - expected.scores).max() < 1e-6
        assert all(("segmentation" in thing) == (path == "/v1/segment") for thing in things)


def test_without_its_token_nobody_is_answered(full: Served) -> None:
    asked_for = ["GET /v1/model", "GET /metrics", "GET /openapi.json", "POST /v1/detect", "GET /v1/models",
                 "POST /v2/models/full/infer", "GET /nothing"]  # fmt: skip
    with full.client() as client:
        for method, path in map(str.split, asked_for):
            answer = client.request(method, path)
            assert answer.status_code == 401, path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert all(
            client.get(path).status_code == 200 for path in ("/", "/api", "/health", "/ready", "/v2/health/live")
        )
    logged = [json.loads(line) for line in full.lines if line.startswith("{")]
    assert all(TOKEN not in str(line) for line in logged)
