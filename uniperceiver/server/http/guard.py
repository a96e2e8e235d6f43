"""GUARD: what every request has to pass before it is looked at, and what every answer carries."""

import asyncio
import hmac
import ipaddress
import json
import re
import secrets
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from uniperceiver.server.http.refusals import Refusal
from uniperceiver.server.metrics import Metrics
from uniperceiver.server.settings import ServerSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Any]
Send = Callable[[Message], Any]
App = Callable[[Scope, Receive, Send], Any]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(), geolocation=()",
}
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_MOST_HEADERS = 100  # h11 has a limit of bytes, but only for a head that arrives in parts
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LEFT = 499  # in the log: the client was gone before its answer


@dataclass(kw_only=True)
class Passage:
    """What is noted of a request on its way."""

    id: str
    start: float = field(default_factory=time.monotonic)
    received: int = 0  # bytes of the body
    status: int = 0  # 0: nothing was answered yet
    complete: bool = False
    waiting: float = 0.0  # seconds in the queue
    computing: float = 0.0
    batch: int = 0


class Guard:
    """An ASGI application around another: host, origin, token, size and time of every request.

    Args:
        free: paths that need no token.
        note: takes a line of JSON for each request; never anything that a client has sent.
    """

    def __init__(
        self, app: App, settings: ServerSettings, metrics: Metrics, free: frozenset[str], note: Callable[[str], None]
    ) -> None:
        self._app, self._settings, self._metrics, self._free, self._note = app, settings, metrics, free, note
        self.held = 0  # bytes of all bodies
        self._hosts = {"127.0.0.1", "localhost", "[::1]", settings.host.lower(), *map(str.lower, settings.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        client_id = headers.get("x-request-id", "")
        passage = Passage(id=client_id if _ID.fullmatch(client_id) else secrets.token_hex(8))
        scope["passage"] = passage
        origin = headers.get("origin", "")
        shared = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"} if self._allows(origin) else {}
        answer = _Answer(send, passage, {**_HEADERS, "X-Request-Id": passage.id, **shared})
        self._metrics.begun += 1
        try:
            await self._answered(scope, headers, receive, answer)
        finally:
            self.held -= passage.received
            self._metrics.ended += 1
            self._log(scope, passage)

    async def _answered(self, scope: Scope, headers: Mapping[str, str], receive: Receive, answer: "_Answer") -> None:
        try:
            self._refuse_stranger(scope, headers)
            if scope["method"] == "OPTIONS" and self._allows(headers.get("origin", "")):
                await answer.preflight()
                return
            body = await self._body(scope["passage"], headers, receive)
            if body is None:
                return
            await self._app_within_time(scope, body, receive, answer)
        except Refusal as refusal:
            # What was sent beyond is not read, so the connection can carry nothing more.
            await answer.refuse(
                refusal,
                scope["path"],
                close="transfer-encoding" in headers or headers.get("content-length", "0") != "0",
            )

    def _allows(self, origin: str) -> bool:
        return origin != "" and origin in self._settings.origins

    def _refuse_stranger(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Refuse whom the server is not meant for.

        Raises:
            Refusal: another host's name, a page of another server, no token, a head that has two meanings.
        """
        if len(scope["headers"]) > _MOST_HEADERS:
            raise Refusal(431, f"more than {_MOST_HEADERS} header lines; send fewer")
        if "content-length" in headers and "transfer-encoding" in headers:
            raise Refusal(400, "Content-Length and Transfer-Encoding together; send only one of them")
        if not self._is_own(headers.get("host")):
            raise Refusal(421, "this server does not go by that name; start it with --allow-host NAME")
        origin = headers.get("origin")
        own = f"{scope.get('scheme', 'http')}://{headers.get('host', '')}"
        if scope["method"] not in _SAFE and origin is not None and origin != own and not self._allows(origin):
            raise Refusal(403, "pages of other servers may not ask; start the server with --allow-origin ORIGIN")
        if self._settings.token is None or scope["path"] in self._free or scope["method"] == "OPTIONS":
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(token.encode("latin-1"), self._settings.token.encode())
        if scheme.lower() != "bearer" or not is_right:
            raise Refusal(401, "send the token of this server as Authorization: Bearer TOKEN")

    def _is_own(self, host: str | None) -> bool:
        """Whether a Host header is one of this server: a web page that has its name lead here has another."""
        if host is None or "*" in self._settings.hosts:
            return True  # of HTTP/1.0, which no web page speaks
        name = host.lower()
        name = name[: name.find("]") + 1] if name.startswith("[") else name.partition(":")[0]
        if name.rstrip(".") in self._hosts:
            return True
        return not self._settings.is_local and _is_address(name)

    async def _body(self, passage: Passage, headers: Mapping[str, str], receive: Receive) -> bytes | None:
        """The whole body; None: the client has gone.

        Raises:
            Refusal: it is too large, too slow, or there is no memory for it now.
        """
        limits = self._settings.limits
        announced = headers.get("content-length", "0")  # digits: h11 refuses all else
        if len(announced) > len(str(limits.body_bytes)) or int(announced) > limits.body_bytes:
            raise Refusal(413, f"more than {limits.body_bytes:,} bytes; send less at once")
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        passage.status = _LEFT
                        return None
                    part = message.get("body", b"")
                    passage.received += len(part)
                    self.held += len(part)
                    if passage.received > limits.body_bytes:
                        raise Refusal(413, f"more than {limits.body_bytes:,} bytes; send less at once")
                    if self.held > limits.held_bytes:
                        raise Refusal(503, "the server holds as many bytes as it may; ask again later")
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise Refusal(408, f"the body took more than {limits.body_seconds:g} seconds") from None

    async def _app_within_time(self, scope: Scope, body: bytes, receive: Receive, answer: "_Answer") -> None:
        """Let the application answer, unless its client goes or it takes too long.

        Raises:
            Refusal: it takes too long, or has an error.
        """
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        passage = scope["passage"]
        work, gone = asyncio.ensure_future(self._app(scope, replay, answer)), asyncio.ensure_future(receive())
        try:
            seconds = self._settings.limits.request_seconds
            await asyncio.wait({work, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and passage.complete:
                await work
            if work.done():
                work.result()
            elif gone.done():
                passage.status = passage.status or _LEFT
            elif not passage.status:
                raise Refusal(504, f"no answer within {seconds:g} seconds; ask for less at once")
        except Refusal:
            raise
        except Exception:
            traceback.print_exc()
            if not passage.status:
                raise Refusal(500, "an error of the server; its log says more") from None
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    def _log(self, scope: Scope, passage: Passage) -> None:
        route = getattr(scope.get("route"), "path", "other")
        seconds = time.monotonic() - passage.start
        self._metrics.requests[route, passage.status] += 1
        self._metrics.seconds.add(seconds)
        line = {
            "id": passage.id,
            "path": route,
            "status": passage.status,
            "bytes": passage.received,
            "ms": round(1000 * seconds, 1),
            "waiting_ms": round(1000 * passage.waiting, 1),
            "computing_ms": round(1000 * passage.computing, 1),
            "batch": passage.batch,
        }
        self._note(json.dumps(line))


class _Answer:
    """`send` of a request, which adds headers and notes what was answered."""

    def __init__(self, send: Send, passage: Passage, headers: Mapping[str, str]) -> None:
        self._send, self._passage = send, passage
        self._headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._passage.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        elif not message.get("more_body", False):
            self._passage.complete = True
        await self._send(message)

    async def refuse(self, refusal: Refusal, path: str, *, close: bool) -> None:
        """Say why there is no answer."""
        body = json.dumps(refusal.body(path)).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refusal.headers}
        await self._whole(refusal.status, headers | ({"Connection": "close"} if close else {}), body)

    async def preflight(self) -> None:
        """Say to a page of another server that it may ask."""
        headers = {
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": "Authorization, Content-Type",
            "Access-Control-Max-Age": "600",
        }
        await self._whole(204, headers, b"")

    async def _whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": status, "headers": lines})
        await self({"type": "http.response.body", "body": body})


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
