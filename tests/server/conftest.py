"""One server of the tiny run, and pictures to ask about."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.regions_run import region_values
from tests.server.started import TOKEN, Served, started
from tests.small_run import train
from tests.started import EXPERTS
from uniperceiver import Recipe
from uniperceiver.strict import parse


@pytest.fixture(scope="session")
def served(trained: Path) -> Iterator[Served]:
    """A server that all tests may ask, and none may stop."""
    with started(trained) as served:
        yield served


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of a model with everything, boxes and experts that are chosen; it asks for a token."""
    folder = tmp_path_factory.mktemp("runs") / "full"
    tasks = ("boxes", "shapes", "colours", "captions", "retrieval")
    changes = {"model__layers": 2, "moe": {**EXPERTS, "layers": [0, 1]}}
    train(folder, parse(Recipe, region_values(tasks, steps=2, **changes), "full"))
    (folder / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
    with started(folder, "--token-file", str(folder / "token"), "--routed") as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    """A client of it."""
    with served.client() as client:
        yield client


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    """Encoded pictures of noise, all different."""
    return [encoded(np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)) for seed in range(8)]


def encoded(x_HWC: np.ndarray, kind: str = "PNG") -> bytes:
    """Pixels as the bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(x_HWC).save(buffer, kind)
    return buffer.getvalue()
