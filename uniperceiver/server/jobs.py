"""JOBS -> BATCHES: what waits for an engine. One that is free takes what is there: no timer holds anything back."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an engine says about one item: values and numbers, or what is wrong with it."""

    values: Mapping[str, Any]
    floats: bytes = b""  # float32, little-endian
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What became of a job."""

    answers: Sequence[Answer]
    notes: Sequence[str] = ()  # what the model says beside them, such as that a text was cut
    computing: float = 0.0  # seconds of the batch
    batch: int = 0  # items that were computed together


class NoAnswer(Exception):
    """A job came to nothing, for a reason that passes: the client may ask again."""


class QueueFull(NoAnswer):
    """As many jobs wait as may wait."""


@dataclass(eq=False, kw_only=True)
class Job:
    """Items of one modality, and one question about them."""

    question: Mapping[str, Any]  # "kind" and its parameters: jobs that are asked alike are answered together
    items: Sequence[bytes]
    deadline: float  # of time.monotonic()
    answered: asyncio.Future[JobResult]
    key: str = field(init=False)
    since: float = field(init=False, default_factory=time.monotonic)
    taken: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.key = json.dumps(self.question, sort_keys=True)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not self.answered.done() and time.monotonic() < self.deadline


class JobQueue:
    """Jobs in the order of their arrival.

    The oldest decides which question is next, and all that is asked alike goes along; so nobody waits for more than
    what was there before.

    Args:
        limit: jobs that may wait.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._jobs: list[Job] = []
        self._arrived = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def is_full(self) -> bool:
        """Whether no job is taken now."""
        return len(self._jobs) >= self._limit

    async def put(self, job: Job) -> None:
        """Let a job wait.

        Raises:
            QueueFull: too many wait already.
        """
        async with self._arrived:
            if self.is_full:
                self._jobs = [waiting for waiting in self._jobs if waiting.is_wanted]
            if self.is_full:
                raise QueueFull(f"{self._limit} requests wait already; ask again later")
            self._jobs.append(job)
            self._arrived.notify_all()

    def refuse_all(self, error: NoAnswer) -> None:
        """Answer all that wait with an error."""
        for job in self._jobs:
            if not job.answered.done():
                job.answered.set_exception(error)
        self._jobs = []

    async def take(self, most: int) -> list[Job]:
        """Wait for jobs, and take the oldest and those that are asked alike: at most so many items, or one job."""
        async with self._arrived:
            while True:
                self._jobs = [job for job in self._jobs if job.is_wanted]
                if self._jobs:
                    return self._take(most)
                await self._arrived.wait()

    def _take(self, most: int) -> list[Job]:
        taken: list[Job] = []
        rest: list[Job] = []
        room, key = most, self._jobs[0].key
        for job in self._jobs:
            if job.key == key and (not taken or len(job.items) <= room):
                taken.append(job)
                room -= len(job.items)
                job.taken = time.monotonic()
            else:
                rest.append(job)
        self._jobs = rest
        return taken
