"""What a server costs beside the bare model: CPU time of its processes, memory, and how latencies spread.

python -m benchmarks.serve RUN [--quick] [--json FILE] asks a server of the run, with one thread, as many clients do at
once. The clients are bare streams, since a client library costs as much as the server. CPU time is what Linux says of
the threads of front and engine; bare and served work take turns.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.harness import BenchmarkRow, figure, main
from uniperceiver import load
from uniperceiver.errors import UserError

PICTURES, SIDE = 64, 64
_CHUNK = 256  # requests between two looks at the clock
_OPEN_SECONDS = 20.0
_SHARE = 0.8  # of what the server can do, in the open loop


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that is measured."""

    host: str
    port: int
    front: int  # processes
    engine: int


@contextmanager
def running(run: Path) -> Iterator[Running]:
    """A server of a run on a free port, with one thread for the model.

    Raises:
        UserError: it does not start.
    """
    command = [sys.executable, "-m", "uniperceiver", "serve", str(run), "--port", "0", "--threads", "1", "--quiet"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            if "serving at" not in line:
                raise UserError(f"{run}: {line.strip()}")
            host, _, port = line.strip().rpartition("/")[2].rpartition(":")
            (engine,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            yield Running(host=host, port=int(port), front=process.pid, engine=int(engine))
        finally:
            process.terminate()


def cpu_seconds(process: int) -> float:
    """CPU time of all threads of a process."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident_megabytes(process: int) -> float:
    """Memory that a process holds."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def request_of(path: str, picture: bytes) -> bytes:
    """A request with the bytes of a picture."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {len(picture)}\r\n\r\n"
    )
    return head.encode() + picture


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """Ask, and read the whole answer; its status."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    await reader.readexactly(int(lengths[0].partition(b":")[2]))
    return int(head.split(b" ", 2)[1])


async def closed_loop(server: Running, requests: Sequence[bytes], clients: int, count: int) -> list[float]:
    """So many clients, each of which asks again when it is answered; seconds of each of `count` answers.

    Raises:
        UserError: an answer is not 200.
    """
    places, seconds = iter(range(count)), list[float]()

    async def client() -> None:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        for place in places:
            start = time.perf_counter()
            status = await answered(reader, writer, requests[place % len(requests)])
            seconds.append(time.perf_counter() - start)
            if status != 200:
                raise UserError(f"an answer with status {status}")
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds


async def open_loop(server: Running, requests: Sequence[bytes], rate: float, seconds: float) -> list[float]:
    """Requests that come whatever becomes of those before, so many in a second; seconds of each answer."""
    rng, latencies = np.random.default_rng(0), list[float]()

    async def client(place: int) -> None:
        start = time.perf_counter()
        reader, writer = await asyncio.open_connection(server.host, server.port)
        if await answered(reader, writer, requests[place % len(requests)]) == 200:
            latencies.append(time.perf_counter() - start)
        writer.close()

    tasks, end = list[asyncio.Task[None]](), time.perf_counter() + seconds
    while time.perf_counter() < end:
        tasks.append(asyncio.create_task(client(len(tasks))))
        await asyncio.sleep(rng.exponential(1 / rate))
    await asyncio.gather(*tasks)
    return latencies


def measure(pairs: int, run: Path | None) -> list[BenchmarkRow]:
    """A server beside the bare model; RUN writes captions and has encoders for pictures."""
    if run is None:
        raise UserError("give a RUN to serve")
    torch.set_num_threads(1)
    model, pictures = load(run), _pictures()
    rows: list[BenchmarkRow] = []
    with running(run) as server:
        bare = resident_megabytes(os.getpid())
        embed = [request_of("/v1/embed?format=base64", picture) for picture in pictures]
        caption = [request_of("/v1/caption?beam=2", picture) for picture in pictures]
        for clients in (1, 8, 32):
            rows += _beside(
                server, f"embed/clients{clients}", embed, clients, lambda: model.encode_image(pictures), pairs
            )
        rows += _beside(
            server, "caption2/clients16", caption, 16, lambda: model.caption(pictures, 2), max(2, pairs // 4)
        )
        rows += _spread(server, embed)
        sizes = [resident_megabytes(process) for process in (server.front, server.engine)]
        rows.append(figure("serve/memory/front", sizes[:1], "MB", goal=60.0))
        rows.append(figure("serve/memory/front and engine over library", [sum(sizes) / bare], "ratio", goal=1.3))
    return rows


def _beside(
    server: Running, name: str, requests: Sequence[bytes], clients: int, bare: Callable[[], object], pairs: int
) -> Iterator[BenchmarkRow]:
    """CPU time of a request, of the bare model over it, and of the front."""
    asyncio.run(closed_loop(server, requests, clients, clients * 2))
    bare()
    whole, front, ratios = [], [], []
    for _ in range(pairs):
        before = [cpu_seconds(process) for process in (server.front, server.engine)]
        asyncio.run(closed_loop(server, requests, clients, _CHUNK))
        after = [cpu_seconds(process) for process in (server.front, server.engine)]
        spent = [1000 * (end - start) / _CHUNK for start, end in zip(before, after, strict=True)]
        start = time.process_time()
        bare()
        alone = 1000 * (time.process_time() - start) / len(requests)
        front.append(spent[0])
        whole.append(sum(spent))
        ratios.append(alone / sum(spent))
    goal = 0.75 if clients > 8 else None  # with few clients the server computes smaller batches than the bare model
    yield figure(f"serve/{name}/cpu of a request", whole, "ms")
    yield figure(f"serve/{name}/cpu of the front", front, "ms", goal=1.0)
    yield figure(f"serve/{name}/bare over served", ratios, "ratio", goal=goal, at_least=True)


def _spread(server: Running, requests: Sequence[bytes]) -> Iterator[BenchmarkRow]:
    """How much longer the slowest of a hundred waits than the middle one."""
    start = time.perf_counter()
    closed = asyncio.run(closed_loop(server, requests, 32, _CHUNK * 2))
    rate = _SHARE * len(closed) / (time.perf_counter() - start)
    yield figure("serve/embed/clients32/p99 over p50", [_p99_over_p50(closed)], "ratio", goal=3.0)
    arrived = asyncio.run(open_loop(server, requests, rate, _OPEN_SECONDS))
    yield figure("serve/embed/open loop at 80 %/p99 over p50", [_p99_over_p50(arrived)], "ratio", goal=3.0)


def _p99_over_p50(seconds: Sequence[float]) -> float:
    middle, slow = np.percentile(seconds, (50, 99))
    return float(slow / middle)


def _pictures() -> list[bytes]:
    rng, pictures = np.random.default_rng(0), list[bytes]()
    for _ in range(PICTURES):
        buffer = BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    return pictures


if __name__ == "__main__":
    main(measure, "RUN")
