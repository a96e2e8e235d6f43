"""Engines that end or hang, clients that are slow, queues that are full, and signals: on servers with small limits."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server import raw
from tests.server.started import Served, started

HEAD, BODY, REQUEST = 1.0, 1.2, 3.0
LIMITS = (f"head_seconds={HEAD}", f"body_seconds={BODY}", f"request_seconds={REQUEST}", "overdue_seconds=0.5",
          "queue=2", "restarts=3", "restart_seconds=600", "connections=40", "body_bytes=200000")  # fmt: skip
TEXTS = {"inputs": [{"text": "a red circle"}]}


@pytest.fixture(scope="module")
def limited(trained: Path) -> Iterator[Served]:
    with started(trained, "--limit", *LIMITS) as served:
        yield served


def engine_of(served: Served) -> int:
    """The process of the only engine."""
    front = served.process.pid
    (child,) = Path(f"/proc/{front}/task/{front}/children").read_text().split()
    return int(child)


def engine_after(served: Served, process: int) -> int:
    """The engine that takes the place of another."""
    front, end = served.process.pid, time.monotonic() + 30
    while time.monotonic() < end:
        children = Path(f"/proc/{front}/task/{front}/children").read_text().split()
        if others := [int(child) for child in children if int(child) != process]:
            return others[0]
        time.sleep(0.01)
    raise AssertionError("no engine is started")


def wait_until_ready(client: httpx.Client, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while client.get("/ready").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_slow_clients_are_closed_while_others_are_answered(limited: Served) -> None:
    """Three kinds: nothing is sent; half a head, byte by byte; half a body."""
    half_body = raw.post("/v1/embed", {"Content-Type": "application/json", "Content-Length": "100"}, b"{")
    start = time.monotonic()
    slow = [socket.create_connection(limited.address, timeout=20) for _ in range(24)]
    for place, connection in enumerate(slow):
        connection.sendall((b"", b"GET /health HT", half_body)[place % 3])
    with limited.client() as client:
        for connection in slow[1::3]:
            connection.sendall(b"T")
        assert all(client.post("/v1/embed", json=TEXTS).status_code == 200 for _ in range(5))
    answers = [raw.read_answer(connection) for connection in slow]
    assert time.monotonic() - start < HEAD + BODY + 4
    for connection in slow:
        connection.close()
    assert {raw.status(answer) for answer in answers[2::3]} == {408}
    assert {raw.status(answer) for answer in answers[0::3] + answers[1::3]} == {0}


def test_an_idle_connection_is_closed_and_a_busy_one_is_kept(limited: Served) -> None:
    request = raw.post("/v1/embed", {"Content-Type": "application/json"}, json.dumps(TEXTS).encode())
    with socket.create_connection(limited.address, timeout=20) as connection:
        for _ in range(4):
            time.sleep(HEAD / 2)  # together longer than a head may take
            connection.sendall(request)
            assert raw.status(raw.read_answer(connection)) == 200
        start = time.monotonic()
        assert connection.recv(10) == b""
        assert time.monotonic() - start < HEAD + 3


def test_too_many_connections_are_refused(limited: Served) -> None:
    connections = [socket.create_connection(limited.address, timeout=20) for _ in range(60)]
    answers = [raw.read_answer(connection) for connection in connections]
    for connection in connections:
        connection.close()
    assert sum(raw.status(answer) == 503 for answer in answers) >= 20
    with limited.client() as client:
        assert client.get("/health").status_code == 200


def test_a_body_that_is_too_large_is_not_read(limited: Served) -> None:
    head = {"Content-Type": "application/json", "Content-Length": "200001"}
    assert raw.status(raw.exchange(limited.address, raw.post("/v1/embed", head))) == 413
    sent = 0
    with socket.create_connection(limited.address, timeout=20) as connection:
        connection.sendall(b"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while sent < 20_000_000:
                connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 65536
        except OSError:
            pass
    assert sent < 12_000_000, "what the sockets hold, and no more"


def test_a_full_queue_says_so_and_health_goes_on(limited: Served, pictures: list[bytes]) -> None:
    engine = engine_of(limited)
    os.kill(engine, signal.SIGSTOP)  # as one that computes for long
    try:
        answers: list[httpx.Response] = []

        def ask(number: int) -> None:
            with limited.client() as client:
                answers.append(client.post("/v1/rank", files={"file": pictures[0]}, data={"texts": f"text {number}"}))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        with limited.client() as client:
            while len(answers) < 3:
                start = time.monotonic()
                assert client.get("/health").status_code == 200
                assert time.monotonic() - start < 2  # and not the seconds that the engine stands still
                time.sleep(0.05)
            assert client.get("/ready").status_code == 503
    finally:
        os.kill(engine, signal.SIGCONT)
    for thread in threads:
        thread.join()
    counts = [answer.status_code for answer in answers]
    assert counts.count(503) == 3, "one with the engine, two in the queue"
    assert all(answer.headers["Retry-After"] == "1" for answer in answers if answer.status_code == 503)
    assert counts.count(200) == 3


def test_an_engine_that_ends_or_hangs_is_started_anew_and_at_last_given_up(limited: Served) -> None:
    with limited.client() as client:
        first = engine_of(limited)
        os.kill(first, signal.SIGKILL)  # while it is idle
        limited.wait_for(lambda line: "has ended; it is started anew" in line)
        os.kill(engine_after(limited, first), signal.SIGKILL)  # while it loads its model
        limited.wait_for(lambda line: "ended before its model was loaded; it is started anew" in line)
        wait_until_ready(client)
        assert client.post("/v1/embed", json=TEXTS).status_code == 200
        os.kill(engine_of(limited), signal.SIGSTOP)
        start = time.monotonic()
        assert client.post("/v1/embed", json=TEXTS).status_code == 504
        assert time.monotonic() - start < REQUEST + 5
        limited.wait_for(lambda line: "did not answer in time; it is started anew" in line)
        wait_until_ready(client)
        assert client.post("/v1/embed", json=TEXTS).status_code == 200
        assert "engine_restarts_total 3" in client.get("/metrics").text
        os.kill(engine_of(limited), signal.SIGKILL)
    assert limited.process.wait(30) == 1
    assert any("4 times in 600 seconds; the server ends" in line for line in limited.lines)


def test_a_signal_loses_no_request(trained: Path, pictures: list[bytes]) -> None:
    """Requests that are on their way at SIGTERM are answered; later ones find nobody."""
    with started(trained, "--quiet") as served:
        statuses: list[int] = []
        unheard = 0

        def ask() -> None:
            nonlocal unheard
            request = raw.post("/v1/embed", {"Content-Type": "image/png", "Connection": "close"}, pictures[0])
            while True:
                try:
                    answer = raw.exchange(served.address, request)
                except OSError:
                    return
                if not answer:
                    unheard += 1
                    return
                statuses.append(raw.status(answer))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        while len(statuses) < 20:
            time.sleep(0.01)
        engine = engine_of(served)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
        for thread in threads:
            thread.join()
        (line,) = [line for line in served.lines if line.startswith("stopped: ")]
        begun, ended = (int(word) for word in line.split() if word.isdigit())
        assert begun == ended == len(statuses), "whoever was read was answered"
        assert set(statuses) <= {200, 503}
        assert unheard <= len(threads)
        assert not Path(f"/proc/{engine}").exists()


def test_a_signal_while_the_model_is_loaded_ends_it(trained: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "uniperceiver", "serve", str(trained), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        end = time.monotonic() + 60
        while not children.read_text() and time.monotonic() < end:
            time.sleep(0.02)
        (engine,) = children.read_text().split()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert not Path(f"/proc/{engine}").exists()
