"""One server of the tiny run, and pictures to ask about."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.server.started import Served, started

pytest.importorskip("fastapi", reason="serving needs fastapi")
pytest.importorskip("uvicorn", reason="serving needs uvicorn")


@pytest.fixture(scope="session")
def served(trained: Path) -> Iterator[Served]:
    """A server that all tests may ask, and none may stop."""
    with started(trained) as served:
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
