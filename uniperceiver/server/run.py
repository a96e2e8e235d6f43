"""SERVER: the process in front, from its socket to its exit code. It has no torch."""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from uniperceiver.errors import UserError
from uniperceiver.server.app import make_app
from uniperceiver.server.engine.engines import Engines
from uniperceiver.server.http.connection import connection_type
from uniperceiver.server.jobs import JobQueue
from uniperceiver.server.metrics import Metrics
from uniperceiver.server.service import Service
from uniperceiver.server.settings import ServerSettings

Say = Callable[[str], None]
_BACKLOG = 512


def serve(settings: ServerSettings, say: Say, note: Say) -> int:
    """Serve until a signal asks to stop; the exit code: 1 where engines ended again and again.

    Args:
        say: takes lines for the people who run the server.
        note: takes a line of JSON for each request.

    Raises:
        UserError: the address cannot be had, or the model cannot be loaded.
    """
    bound = _bind(settings)
    with bound:
        return asyncio.run(_serve(settings, bound, say, note))


def _bind(settings: ServerSettings) -> socket.socket:
    """The address, so that a wrong one is noticed before a model is loaded."""
    host, port = settings.host.strip("[]"), settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"--host {settings.host}: is no address of this machine ({error.strerror})") from None
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"--port {port}: another program listens there; give another one, or 0") from None
        raise UserError(f"{settings.host}:{port}: cannot be used ({error.strerror}); give another address") from None
    return bound


async def _serve(settings: ServerSettings, bound: socket.socket, say: Say, note: Say) -> int:
    queue, metrics, code = JobQueue(settings.limits.queue), Metrics(), 0
    server: _Server | None = None

    def give_up() -> None:
        nonlocal code
        code = 1
        if server is not None:
            server.stop()

    engines = Engines(settings, queue, metrics, say, give_up)
    with _stopped_by_signals() as asked:
        starting = asyncio.ensure_future(engines.start())
        waiting = asyncio.ensure_future(asked.wait())
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
    service = Service(settings, starting.result(), queue, engines, metrics)
    server = _Server(_config(settings, service, note), service)
    bound.listen(_BACKLOG)
    host, port = bound.getsockname()[:2]
    if service.facts["folded"]:
        say(
            f"{service.name}: experts are folded into plain weights, which answer alike and faster; --routed keeps them"
        )
    shown = f"[{host}]" if ":" in host else host
    say(f"{service.name}: serving at http://{shown}:{port}")
    try:
        await server.serve(sockets=[bound])
    finally:
        await engines.stop()
    say(f"stopped: {metrics.begun} requests, {metrics.ended} of them ended")
    return code


@contextmanager
def _stopped_by_signals() -> Generator[asyncio.Event, None, None]:
    """An event that a signal sets, while engines load their models."""
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: loop.call_soon_threadsafe(asked.set)) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _config(settings: ServerSettings, service: Service, note: Say) -> uvicorn.Config:
    limits = settings.limits
    return uvicorn.Config(
        make_app(service, note),
        http=connection_type(limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(limits.head_seconds) + 1,  # ours is closed before
        timeout_graceful_shutdown=int(limits.request_seconds),
    )


class _Server(uvicorn.Server):
    """uvicorn's server, which ends with 0 after a signal, and at once after a second one."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def stop(self) -> None:
        """Take nothing new, and end when all that was taken is answered."""
        self._service.stopping = True
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; at once, where that was asked for already."""
        self.force_exit = self.should_exit
        self.stop()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Listen to signals, and do not raise them again afterwards, as uvicorn would."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self.handle_exit) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
