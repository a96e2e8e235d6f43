"""CHANNEL: what front and one engine say to each other. Answers about large items come later than those behind them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from uniperceiver.server.engine import frames
from uniperceiver.server.engine.frames import Frame
from uniperceiver.server.jobs import Answer, Job, JobResult
from uniperceiver.server.settings import Limits


class EngineFailed(Exception):
    """The engine met an error that nobody foresaw; it goes on."""


@dataclass(eq=False, kw_only=True)
class AskedBatch:
    """Jobs that were handed over together, and wait for their answers."""

    jobs: dict[int, Job]  # by their place
    heard: asyncio.Event = field(default_factory=asyncio.Event)  # the engine is free for more


class Channel:
    """The pipes of one engine: jobs are handed over one batch after the other, while a task listens.

    Args:
        count_items: takes the number of items that were computed together.
        say: takes what an engine says of an error that nobody foresaw.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        limits: Limits,
        count_items: Callable[[float], None],
        say: Callable[[str], None],
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self._patience = limits.request_seconds + limits.overdue_seconds
        self._count_items, self._say = count_items, say
        self._numbers, self._batches = count(), dict[int, AskedBatch]()
        self.listening = asyncio.create_task(self._listen())  # it ends by an error: that of `ask`

    async def ask(self, jobs: Sequence[Job]) -> None:
        """Hand over jobs that are asked alike, until the engine is free for others.

        Raises:
            BrokenFrame, OSError: the engine has ended.
            TimeoutError: it takes too long.
        """
        number, now, batch = next(self._numbers), time.monotonic(), AskedBatch(jobs=dict(enumerate(jobs)))
        head = {
            "number": number,
            "question": jobs[0].question,
            "counts": [len(job.items) for job in jobs],
            "seconds": [max(0.0, job.deadline - now) for job in jobs],
        }
        self._batches[number] = batch
        heard = asyncio.create_task(batch.heard.wait())
        try:
            async with asyncio.timeout(self._patience):
                self._in.write(frames.pack(Frame(head=head, blobs=[item for job in jobs for item in job.items])))
                await self._in.drain()
                await asyncio.wait({heard, self.listening}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            heard.cancel()
        if self.listening.done():
            self.listening.result()

    def close(self, error: Exception) -> None:
        """Listen no more, and tell all who wait why."""
        self.listening.cancel()
        for batch in self._batches.values():
            fail(list(batch.jobs.values()), error)
        self._batches.clear()

    async def _listen(self) -> None:
        """Hand answers to those who wait.

        Raises:
            BrokenFrame: the engine has ended.
            TimeoutError: nothing came of large items for too long.
        """
        loop = asyncio.get_running_loop()
        progress = loop.time()
        while True:
            waits = any(batch.heard.is_set() for batch in self._batches.values())
            async with asyncio.timeout_at(progress + self._patience if waits else None):
                frame = await frames.receive(self._out)
            batch = self._batches[frame.head["number"]]
            if batch.heard.is_set() or not waits:
                progress = loop.time()
            self._answered(batch, frame)
            batch.heard.set()
            if not batch.jobs:
                del self._batches[frame.head["number"]]

    def _answered(self, batch: AskedBatch, frame: Frame) -> None:
        jobs = [batch.jobs.pop(place) for place in frame.head["places"]]
        if "failed" in frame.head:
            self._say(f"an engine failed: {frame.head['failed']}")
            fail(jobs, EngineFailed())
            return
        items, blobs = sum(len(job.items) for job in jobs), iter(frame.blobs)
        if jobs:
            self._count_items(items)
        for job, outcome in zip(jobs, frame.head["jobs"], strict=True):
            answers = [
                Answer(values=answer["values"], error=answer["error"], floats=next(blobs))
                for answer in outcome["answers"]
            ]
            if not job.answered.done():
                notes, seconds = outcome["notes"], frame.head["seconds"]
                job.answered.set_result(JobResult(answers=answers, notes=notes, computing=seconds, batch=items))


def fail(jobs: Sequence[Job], error: Exception) -> None:
    """Tell all who still wait for a job why there is no answer."""
    for job in jobs:
        if not job.answered.done():
            job.answered.set_exception(error)
