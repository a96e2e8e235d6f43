"""Who may ask: every rule of the guard, on an application that only says it was reached."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from uniperceiver.errors import UserError
from uniperceiver.server.http.guard import Guard, Message, Receive, Scope, Send
from uniperceiver.server.metrics import Metrics
from uniperceiver.server.settings import Limits, ModelSource, ServerSettings

TOKEN = "0123456789abcdefXYZ"
JSON = {"content-type": "application/json"}


def settings(**more: Any) -> ServerSettings:
    return ServerSettings(model=ModelSource(path="run", name="tiny"), **more)


class Asked:
    """What became of a request to a guarded application."""

    def __init__(self, guard: Guard, notes: list[str]) -> None:
        self.guard, self.notes, self.sent = guard, notes, list[Message]()

    @property
    def status(self) -> int:
        return self.sent[0]["status"] if self.sent else 0

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}


def ask(
    chosen: ServerSettings,
    method: str = "POST",
    path: str = "/v1/embed",
    headers: Mapping[str, str] | None = None,
    body: tuple[bytes | float, ...] = (b"{}",),
    seconds: float = 0.0,
    stays: bool = True,
    held: int = 0,
) -> Asked:
    """Ask an application behind a guard.

    Args:
        body: parts of the body, and seconds that pass between them.
        seconds: that the application takes.
        stays: whether the client waits for the answer.
        held: bytes of the bodies of others.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await asyncio.sleep(seconds)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"reached"})

    notes: list[str] = []
    guard = Guard(app, chosen, Metrics(), frozenset({"/health"}), notes.append)
    guard.held = held
    asked = Asked(guard, notes)
    parts = list(body)

    async def receive() -> Message:
        while parts and isinstance(parts[0], float):
            await asyncio.sleep(parts.pop(0))  # type: ignore[arg-type]
        if parts:
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
        if stays:
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        asked.sent.append(message)

    given = {"host": "127.0.0.1:8000", **(headers or {})}
    lines = [(name.encode(), value.encode("latin-1")) for name, value in given.items() if value]
    scope = {"type": "http", "method": method, "path": path, "headers": lines, "scheme": "http"}
    asyncio.run(guard(scope, receive, send))
    assert guard.held == held
    return asked


LOCAL, SECRET = settings(), settings(token=TOKEN)
PUBLIC = settings(host="0.0.0.0", token=TOKEN, hosts=("model.example",), origins=("https://app.example",))
WITH = {"authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("chosen", "headers", "status"),
    [
        (LOCAL, {}, 200),
        (LOCAL, {"host": "localhost:8000"}, 200),
        (LOCAL, {"host": "LOCALHOST"}, 200),
        (LOCAL, {"host": "localhost."}, 200),
        (LOCAL, {"host": "[::1]:8000"}, 200),
        (LOCAL, {"host": ""}, 200),
        (LOCAL, {"host": "evil.example"}, 421),
        (LOCAL, {"host": "evil.example:8000"}, 421),
        (LOCAL, {"host": "127.0.0.1.evil.example"}, 421),
        (LOCAL, {"host": "localhost@evil.example"}, 421),
        (LOCAL, {"host": "192.168.0.7"}, 421),
        (LOCAL, {"origin": "http://127.0.0.1:8000"}, 200),
        (LOCAL, {"origin": "http://127.0.0.1:9000"}, 403),
        (LOCAL, {"origin": "https://127.0.0.1:8000"}, 403),
        (LOCAL, {"origin": "null"}, 403),
        (LOCAL, {"origin": "http://evil.example"}, 403),
        (LOCAL, {"content-length": "2", "transfer-encoding": "chunked"}, 400),
        (LOCAL, {f"x-{number}": "1" for number in range(100)}, 431),
        (SECRET, {}, 401),
        (SECRET, WITH, 200),
        (SECRET, {"authorization": f"bearer {TOKEN}"}, 200),
        (SECRET, {"authorization": f"Basic {TOKEN}"}, 401),
        (SECRET, {"authorization": TOKEN}, 401),
        (SECRET, {"authorization": f"Bearer {TOKEN}x"}, 401),
        (SECRET, {"authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        (SECRET, {"authorization": "Bearer é"}, 401),
        (SECRET, {"authorization": "Bearer "}, 401),
        (PUBLIC, {**WITH, "host": "model.example"}, 200),
        (PUBLIC, {**WITH, "host": "192.168.0.7:8000"}, 200),
        (PUBLIC, {**WITH, "host": "other.example"}, 421),
        (PUBLIC, {**WITH, "origin": "https://app.example"}, 200),
        (PUBLIC, {**WITH, "origin": "https://app.example.evil"}, 403),
        (settings(hosts=("*",)), {"host": "any.example"}, 200),
    ],
)
def test_who_may_ask(chosen: ServerSettings, headers: dict[str, str], status: int) -> None:
    asked = ask(chosen, headers=headers)
    assert asked.status == status
    assert (
        asked.sent[-1]["body"] == b"reached" if status == 200 else set(json.loads(asked.sent[-1]["body"])) == {"error"}
    )


def test_health_needs_no_token_and_reading_no_origin() -> None:
    assert ask(SECRET, "GET", "/health").status == 200
    assert ask(SECRET, "GET", "/metrics").status == 401
    other = ask(LOCAL, "GET", "/v1/model", {"origin": "http://evil.example"})
    assert other.status == 200
    assert "access-control-allow-origin" not in other.headers, "so its page cannot read it"


def test_a_page_that_may_ask_is_told_so() -> None:
    preflight = ask(PUBLIC, "OPTIONS", headers={"origin": "https://app.example"}, body=(b"",))
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (204, "https://app.example")
    stranger = ask(PUBLIC, "OPTIONS", headers={"origin": "https://evil.example"}, body=(b"",))
    assert "access-control-allow-origin" not in stranger.headers


def test_every_answer_has_the_headers_of_safety() -> None:
    for asked in (ask(LOCAL), ask(LOCAL, headers={"host": "evil.example"})):
        assert "default-src 'none'" in asked.headers["content-security-policy"]
        assert "unsafe" not in asked.headers["content-security-policy"]
        assert asked.headers["x-content-type-options"] == "nosniff"
        assert asked.headers["referrer-policy"] == "no-referrer"
        assert asked.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("sent", "kept"), [("abc-1", True), ("a" * 65, False), ('a"b', False), ("a b", False), ("", False)]
)
def test_the_id_of_a_request_is_the_clients_where_it_is_harmless(sent: str, kept: bool) -> None:
    asked = ask(LOCAL, headers={"x-request-id": sent})
    assert (asked.headers["x-request-id"] == sent) == kept
    (line,) = asked.notes
    assert json.loads(line)["id"] == asked.headers["x-request-id"]


def small(**limits: Any) -> ServerSettings:
    return settings(limits=Limits(**limits))


@pytest.mark.parametrize(
    ("chosen", "body", "headers", "status"),
    [
        (small(body_bytes=8), (b"12345678",), {}, 200),
        (small(body_bytes=8), (b"123456789",), {}, 413),
        (small(body_bytes=8), (b"1234", b"5678", b"9"), {}, 413),
        (small(body_bytes=8), (b"",), {"content-length": "9"}, 413),
        (small(body_bytes=8), (b"",), {"content-length": "9" * 5000}, 413),
        (small(held_bytes=8), (b"123456789",), {}, 503),
        (small(body_seconds=0.2), (b"1", 0.05, b"2"), {}, 200),
        (small(body_seconds=0.2), (b"1", 5.0, b"2"), {}, 408),
        (small(body_seconds=0.2), (b"1", 0.09, b"2", 0.09, b"3", 0.09, b"4"), {}, 408),
    ],
)
def test_how_much_is_taken(chosen: ServerSettings, body: tuple, headers: dict[str, str], status: int) -> None:
    asked = ask(chosen, headers=headers, body=body)
    assert asked.status == status
    assert ("retry-after" in asked.headers) == (status == 503)


def test_bodies_of_all_together_have_a_limit() -> None:
    chosen = small(held_bytes=8, body_bytes=6)
    assert ask(chosen, body=(b"1234",), held=4).status == 200
    assert ask(chosen, body=(b"123", b"45"), held=4).status == 503


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    assert ask(small(request_seconds=0.1), seconds=5.0).status == 504


def test_who_goes_is_not_answered_and_work_for_him_ends() -> None:
    asked = ask(LOCAL, seconds=5.0, stays=False)
    assert asked.sent == []
    assert json.loads(asked.notes[0])["status"] == 499


def test_what_is_logged_holds_nothing_that_a_client_sent() -> None:
    path = "/v1/a\r\nGET /evil"
    (line,) = ask(LOCAL, path=path, headers={"user-agent": "evil", "x-request-id": "a\r\nb"}, body=(b"evil",)).notes
    assert "evil" not in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"host": "0.0.0.0"}, "--token-file FILE, or --open"),
        ({"host": "192.168.0.7"}, "--token-file FILE, or --open"),
        ({"host": "example.org"}, "--token-file FILE, or --open"),
        ({"port": 70000}, "--port"),
        ({"engines": 0}, "--engines"),
        ({"origins": ("example.org",)}, "--allow-origin"),
        ({"origins": ("https://example.org/a",)}, "--allow-origin"),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        settings(**fields)


def test_settings_that_do() -> None:
    for host in ("127.0.0.1", "127.0.0.7", "localhost", "::1", "[::1]"):
        assert settings(host=host).is_local
    assert not settings(host="0.0.0.0", is_open=True).is_local
