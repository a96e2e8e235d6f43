"""The clients of the benchmark are answered as others are, and its figures are of the processes that it names."""

import asyncio
import time
from pathlib import Path

from benchmarks import serve


def test_all_requests_are_answered_and_cpu_is_counted(trained: Path) -> None:
    requests = [serve.request_of("/v1/embed?format=base64", picture) for picture in serve._pictures()[:8]]
    with serve.running(trained) as server:
        before = serve.cpu_seconds(server.engine)
        start = time.perf_counter()
        seconds = asyncio.run(serve.closed_loop(server, requests, 4, 24))
        elapsed = time.perf_counter() - start
        assert len(seconds) == 24
        assert max(seconds) <= elapsed
        assert 0 < serve.cpu_seconds(server.engine) - before < 2 * elapsed
        assert serve.resident_megabytes(server.front) < serve.resident_megabytes(server.engine)
        assert len(asyncio.run(serve.open_loop(server, requests, 20, 0.5))) > 1
