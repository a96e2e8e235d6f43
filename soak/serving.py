"""A server under load for long: memory and handles, signals, engines that are killed, slow clients, large pictures."""

import asyncio
import base64
import json
import os
import select
import signal
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serve import Running, answered, resident_megabytes
from tests.server import raw
from tests.server.conftest import encoded
from tests.server.started import Served, started
from tests.small_run import TASKS, small_recipe, train

PATIENCE = 10.0  # seconds in which every request is answered, whatever happens to its engine


@cache
def run_in(folder: Path) -> Path:
    """A tiny run that is served."""
    folder.mkdir(parents=True, exist_ok=True)
    train(folder / "run", small_recipe(tuple(TASKS), steps=2))
    return folder / "run"


@contextmanager
def running(folder: Path, *words: str) -> Iterator[tuple[Served, Running]]:
    """A server of that run, and the numbers of its processes."""
    with started(run_in(folder), "--quiet", *words) as served:
        host, port = served.address
        yield served, Running(host=host, port=port, front=served.process.pid, engine=engine_of(served))


def engine_of(served: Served) -> int:
    """The process of the only engine."""
    front = served.process.pid
    return int(Path(f"/proc/{front}/task/{front}/children").read_text().split()[0])


def mixed_requests() -> list[bytes]:
    """Questions of all kinds, in all forms."""
    rng = np.random.default_rng(0)
    pictures = [encoded(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), kind) for kind in ("PNG", "JPEG", "WEBP")]
    kind = {"Content-Type": "image/png"}
    requests = [raw.post(f"/v1/{path}", kind, picture) for picture in pictures
                for path in ("embed", "classify?labels=a+red+circle&labels=a+blue+square", "caption?words=4",
                             "rank?texts=a&texts=b", "classify?task=colours")]  # fmt: skip
    inputs = [{"image": base64.b64encode(pictures[0]).decode()}, {"text": "a red circle"}]
    body = json.dumps({"inputs": inputs}).encode()
    return [*requests, raw.post("/v1/embed", {"Content-Type": "application/json"}, body)]


def long_load(folder: Path, count: int, clients: int = 8) -> dict[str, Any]:
    """So many requests; memory after a fifth of them and at the end, open handles, statuses."""
    with running(folder) as (_, server):
        requests, statuses = mixed_requests(), Counter[int]()

        async def load(places: Iterator[int]) -> None:
            async def client() -> None:
                reader, writer = await asyncio.open_connection(server.host, server.port)
                for place in places:
                    statuses[await answered(reader, writer, requests[place % len(requests)])] += 1
                writer.close()

            await asyncio.gather(*(client() for _ in range(clients)))

        def held() -> tuple[float, int]:
            processes = (server.front, server.engine)
            handles = sum(len(os.listdir(f"/proc/{process}/fd")) for process in processes)
            return sum(map(resident_megabytes, processes)), handles

        asyncio.run(load(iter(range(count // 5))))
        time.sleep(1)
        before = held()
        asyncio.run(load(iter(range(count - count // 5))))
        time.sleep(1)
        after = held()
    good = set(statuses) == {200} and after[0] <= 1.02 * before[0] and after[1] == before[1]
    return {
        "good": good,
        "statuses": dict(statuses),
        "megabytes": (before[0], after[0]),
        "handles": (before[1], after[1]),
    }


def clients_until_gone(served: Served, statuses: list[int], clients: int = 6) -> list[threading.Thread]:
    """Clients that ask on new connections until nobody listens; each ends at its first connection without answer."""
    requests = [request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1) for request in mixed_requests()]

    def ask(place: int) -> None:
        answer = b"x"
        while answer:
            try:
                answer = raw.exchange(served.address, requests[place % len(requests)], PATIENCE * 4)
            except OSError:
                return
            if answer:
                statuses.append(raw.status(answer))
            place += 1

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    return threads


def terminated(folder: Path, seconds: float) -> dict[str, Any]:
    """SIGTERM so long after the first answers: what was read is answered, and no process stays."""
    with running(folder) as (served, server):
        statuses: list[int] = []
        threads = clients_until_gone(served, statuses)
        while len(statuses) < 5:
            time.sleep(0.01)
        time.sleep(seconds)
        start = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        code = served.process.wait(60)
        took = time.monotonic() - start
        for thread in threads:
            thread.join()
        (line,) = [line for line in served.lines if line.startswith("stopped: ")]
        begun, ended = (int(word) for word in line.split() if word.isdigit())
    gone = not Path(f"/proc/{server.engine}").exists()
    good = code == 0 and took <= 30 and begun == ended == len(statuses) and gone and set(statuses) <= {200, 503}
    return {"good": good, "code": code, "seconds": took, "begun": begun, "answered": len(statuses), "gone": gone}


def killed_engines(folder: Path, kills: int, seed: int = 0) -> dict[str, Any]:
    """An engine killed under load, again and again: every request is answered, and the server is back."""
    rng, slowest, back = np.random.default_rng(seed), 0.0, list[float]()
    began = time.monotonic()
    with running(folder, "--limit", f"restarts={kills}") as (served, _):
        load = time.monotonic() - began  # of front and engine
        statuses, stop = Counter[int](), threading.Event()
        request = mixed_requests()[0]

        def ask() -> None:
            nonlocal slowest
            while not stop.is_set():
                start = time.monotonic()
                statuses[raw.status(raw.exchange(served.address, request, 60))] += 1
                slowest = max(slowest, time.monotonic() - start)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        with served.client() as client:
            for _ in range(kills):
                time.sleep(float(rng.uniform(0.1, 1.0)))
                os.kill(engine_of(served), signal.SIGKILL)
                start = time.monotonic()
                time.sleep(0.1)
                while client.get("/ready").status_code != 200:
                    time.sleep(0.05)
                back.append(time.monotonic() - start)
        stop.set()
        for thread in threads:
            thread.join()
        alive = served.process.poll() is None
    good = alive and set(statuses) <= {200, 503}
    return {
        "good": good,
        "statuses": dict(statuses),
        "slowest": slowest,
        "back": max(back),
        "load": load,
        "kills": kills,
    }


def slow_clients(folder: Path, count: int) -> dict[str, Any]:
    """So many connections that send nothing, half a head or half a body, beside 100 requests of others."""
    with running(folder) as (served, _):
        part = raw.post("/v1/embed", {"Content-Type": "application/json", "Content-Length": "99"}, b"{")
        start = time.monotonic()
        slow = [socket.create_connection(served.address, timeout=60) for _ in range(count)]
        for place, connection in enumerate(slow):
            connection.sendall((b"", b"POST /v1/embed HTTP/1.1\r\nHo", part)[place % 3])
        opened = time.monotonic() - start
        with ThreadPoolExecutor(1) as pool:
            watching = pool.submit(_closings, slow, start)
            statuses, health = Counter[int](), list[float]()
            with served.client() as client:
                for _ in range(100):
                    statuses[client.post("/v1/embed", json={"inputs": [{"text": "a"}]}).status_code] += 1
                    before = time.monotonic()
                    client.get("/health")
                    health.append(time.monotonic() - before)
            answers, closed = watching.result()
    kinds = [sorted({raw.status(answer) for answer in answers[kind::3]}) for kind in range(3)]
    good = statuses == {200: 100} and kinds == [[0], [0], [408]] and closed <= 20
    return {
        "good": good,
        "seconds": closed,
        "opened": opened,
        "health": float(np.percentile(health, 99)),
        "answers": kinds,
    }


def _closings(slow: list[socket.socket], start: float) -> tuple[list[bytes], float]:
    """What each connection got until it was closed, and when the last one was."""
    answers, open_ones = [b""] * len(slow), {connection: place for place, connection in enumerate(slow)}
    while open_ones:
        for connection in select.select(list(open_ones), [], [], 60)[0]:
            try:
                data = connection.recv(65536)
            except ConnectionError:
                data = b""
            answers[open_ones[connection]] += data
            if not data:
                del open_ones[connection]
                connection.close()
    return answers, time.monotonic() - start


def large_picture(folder: Path) -> dict[str, Any]:
    """40 megapixels in some hundred kilobytes: what it takes, and how long another client waits meanwhile."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 8000, 5000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(5000 * (1 + 3 * 8000)), 9)
    picture = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    with running(folder) as (served, server), served.client() as client:
        small = {"inputs": [{"text": "a red circle"}]}
        client.post("/v1/embed", json=small)
        before, waited = resident_megabytes(server.engine), list[float]()
        statuses: list[int] = []
        thread = threading.Thread(
            target=lambda: statuses.append(client.post("/v1/embed", files={"file": picture}).status_code)
        )
        thread.start()
        peak = before
        with served.client() as other:
            while thread.is_alive():
                start = time.monotonic()
                statuses.append(other.post("/v1/embed", json=small).status_code)
                waited.append(time.monotonic() - start)
                peak = max(peak, resident_megabytes(server.engine))
        thread.join()
        high = int(Path(f"/proc/{server.engine}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1000
    good = set(statuses) == {200} and high - before <= 400
    return {"good": good, "bytes": len(picture), "megabytes": high - before, "waited": max(waited, default=0.0)}
