"""CONNECTION: uvicorn's, which is closed where its client is slow. uvicorn itself waits for ever."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from uniperceiver.server.settings import Limits

_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_GRACE = 5.0  # seconds beyond the longest request, in which its answer must be taken


class TimedConnection(H11Protocol):
    """A connection that is closed when the head of a request, or the taking of its answer, lasts too long."""

    limits = Limits()
    _timer: asyncio.TimerHandle | None = None
    _head_begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; where there are too many connections, close."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.write(_FULL)
            transport.close()
        self._wait(self.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head has its time from its first byte on, however few follow it at a time."""
        if self._is_idle and not self._head_begun:
            self._head_begun = True
            self._wait(self.limits.head_seconds)
        super().data_received(data)
        if not self._is_idle and self._head_begun:
            self._head_begun = False
            self._wait(self.limits.body_seconds + self.limits.request_seconds + _GRACE)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._head_begun = False
        self._wait(self.limits.head_seconds)
        super().on_response_complete()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)


def connection_type(limits: Limits) -> type[TimedConnection]:
    """The connections of a server with these limits."""
    return type("LimitedConnection", (TimedConnection,), {"limits": limits})
