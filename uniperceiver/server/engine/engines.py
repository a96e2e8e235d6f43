"""ENGINES: the processes that hold the model, each with a task of the front that feeds it and starts it anew."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from uniperceiver.errors import UserError
from uniperceiver.server.engine import frames
from uniperceiver.server.engine.channel import Channel, fail
from uniperceiver.server.engine.frames import BrokenFrame
from uniperceiver.server.jobs import Job, JobQueue, NoAnswer
from uniperceiver.server.metrics import Metrics
from uniperceiver.server.settings import ServerSettings

Say = Callable[[str], None]
_WORKER = "uniperceiver.server.engine.worker"  # named, not imported: it has what the front does without
_BUFFER = 2**20  # bytes of an answer that are read ahead


class NotLoaded(UserError):
    """An engine has ended, or was ended, before its model was loaded.

    Args:
        path: of the model.
        reason: what the engine did.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: the engine {reason}; see what it wrote above")
        self.reason = reason


class Engines:
    """All engines of a server.

    Args:
        say: takes lines for the people who run the server.
        give_up: called when engines end again and again.
    """

    def __init__(
        self, settings: ServerSettings, queue: JobQueue, metrics: Metrics, say: Say, give_up: Callable[[], None]
    ) -> None:
        self._settings, self._queue, self._metrics, self._say = settings, queue, metrics, say
        self._give_up = give_up
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._ready: set[int] = set()
        self._channels: dict[int, Channel] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._restarts: deque[float] = deque()

    @property
    def ready(self) -> int:
        """Engines that have their model loaded."""
        return len(self._ready)

    @property
    def processes(self) -> dict[str, int]:
        """The number of each engine's process."""
        return {f"engine{place}": process.pid for place, process in self._processes.items()}

    async def start(self) -> Mapping[str, Any]:
        """Start all engines and wait for their models; what they say of it.

        Raises:
            UserError: the model cannot be loaded.
        """
        places = range(self._settings.engines)
        try:
            facts = await asyncio.gather(*(self._load(place) for place in places))
        except BaseException:
            await self.stop()
            raise
        self._tasks = [asyncio.create_task(self._work(place)) for place in places]
        return facts[0]

    async def stop(self) -> None:
        """End all engines; whoever still waits for one is told so."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels.values():
            channel.close(NoAnswer("the server stops"))
        for process in list(self._processes.values()):
            await _end(process)
        self._processes.clear()
        self._ready.clear()

    async def _load(self, place: int) -> Mapping[str, Any]:
        """Start one engine, and wait for its model.

        Raises:
            UserError: it says that the model cannot be loaded, or ends before it is.
        """
        settings = self._settings
        share = max(1, (os.cpu_count() or 1) // settings.engines)
        environment = {"OMP_NUM_THREADS": str(share), "GOMP_SPINCOUNT": "0", **os.environ}
        if settings.model.threads is not None:
            environment["OMP_NUM_THREADS"] = str(settings.model.threads)
        words = json.dumps({"model": asdict(settings.model), "limits": asdict(settings.limits)})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _WORKER, words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            limit=_BUFFER,
            start_new_session=True,  # a Ctrl-C in the terminal is for the front
        )
        self._processes[place] = process
        assert process.stdout is not None
        try:
            async with asyncio.timeout(settings.limits.load_seconds):
                head = (await frames.receive(process.stdout)).head
        except (BrokenFrame, TimeoutError) as error:
            await _end(process)
            reason = "took too long to load" if isinstance(error, TimeoutError) else "ended before its model was loaded"
            raise NotLoaded(settings.model.path, reason) from None
        if "refused" in head:
            await _end(process)
            raise UserError(head["refused"])
        self._channels[place] = Channel(process, settings.limits, self._metrics.batches.add, self._say)
        self._ready.add(place)
        return head

    async def _work(self, place: int) -> None:
        """Feed one engine as long as the server lives, and start it anew when it ends."""
        while True:
            jobs: list[Job] = []
            try:
                jobs = await self._taken(place)
                await self._channels[place].ask(jobs)
            except (BrokenFrame, TimeoutError, OSError) as error:
                reason = "did not answer in time" if isinstance(error, TimeoutError) else "has ended"
                why = NoAnswer(f"the engine {reason} while it computed; ask again")
                self._channels[place].close(why)
                fail(jobs, why)
                if not await self._restart(place, reason):
                    return
            except asyncio.CancelledError:
                fail(jobs, NoAnswer("the server stops"))
                raise

    async def _taken(self, place: int) -> list[Job]:
        """The next jobs for an engine.

        Raises:
            BrokenFrame, TimeoutError: it has ended meanwhile, or does not answer.
        """
        take = asyncio.create_task(self._queue.take(self._settings.limits.batch))
        listening = self._channels[place].listening
        try:
            await asyncio.wait({take, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not take.done():
                listening.result()
            return await take
        finally:
            take.cancel()

    async def _restart(self, place: int, reason: str) -> bool:
        """Start an engine anew; False: it has ended too often, and the server gives up."""
        limits = self._settings.limits
        while True:
            now = time.monotonic()
            self._ready.discard(place)
            await _end(self._processes[place])
            self._restarts.append(now)
            while now - self._restarts[0] > limits.restart_seconds:
                self._restarts.popleft()
            if len(self._restarts) > limits.restarts:
                count = len(self._restarts)
                self._stop_serving(f"an engine {reason}, {count} times in {limits.restart_seconds:g} seconds")
                return False
            self._say(f"an engine {reason}; it is started anew")
            self._metrics.restarts += 1
            try:
                await self._load(place)
            except NotLoaded as error:
                reason = error.reason
            except UserError as error:  # the model is not what it was
                self._stop_serving(str(error))
                return False
            else:
                return True

    def _stop_serving(self, reason: str) -> None:
        self._say(f"{reason}; the server ends")
        self._queue.refuse_all(NoAnswer("the server ends"))
        self._give_up()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process that may compute, or be gone already."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
