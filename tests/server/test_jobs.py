"""The queue: who is next, who is dropped, and when it is full."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from uniperceiver.server.jobs import Job, JobQueue, JobResult, NoAnswer, QueueFull


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


def job(name: str, items: int = 1, seconds: float = 60) -> Job:
    return Job(
        question={"kind": name},
        items=[b""] * items,
        deadline=time.monotonic() + seconds,
        answered=asyncio.get_running_loop().create_future(),
    )


def test_the_oldest_is_next_with_all_that_is_asked_alike() -> None:
    async def work() -> None:
        queue = JobQueue(10)
        jobs = [job("a"), job("b"), job("a"), job("c"), job("b")]
        for waiting in jobs:
            await queue.put(waiting)
        taken = [await queue.take(32) for _ in range(3)]
        assert taken == [[jobs[0], jobs[2]], [jobs[1], jobs[4]], [jobs[3]]]
        assert len(queue) == 0

    run(work())


def test_a_flood_of_one_question_lets_others_through() -> None:
    """However many jobs of one kind come later, an older one of another kind is taken first."""

    async def work() -> None:
        queue = JobQueue(100)
        for _ in range(40):
            await queue.put(job("flood"))
        other = job("other")
        await queue.put(other)
        for _ in range(40):
            await queue.put(job("flood"))
        first, second, third = [await queue.take(32) for _ in range(3)]
        assert [len(first), len(second)] == [32, 32]
        assert third == [other]

    run(work())


def test_a_batch_has_at_most_so_many_items_but_a_job_is_not_cut() -> None:
    async def work() -> None:
        queue = JobQueue(10)
        for items in (3, 2, 5, 40):
            await queue.put(job("a", items))
        counts = [[len(taken.items) for taken in await queue.take(8)] for _ in range(2)]
        assert counts == [[3, 2], [5]]
        assert [len(taken.items) for taken in await queue.take(8)] == [40]

    run(work())


def test_a_full_queue_refuses_and_forgets_who_has_gone() -> None:
    async def work() -> None:
        queue = JobQueue(2)
        gone = job("a")
        await queue.put(gone)
        await queue.put(job("a"))
        assert queue.is_full
        with pytest.raises(QueueFull, match="2 requests wait"):
            await queue.put(job("a"))
        gone.answered.cancel()
        await queue.put(job("b"))
        assert len(queue) == 2

    run(work())


def test_a_job_whose_time_is_over_costs_nothing() -> None:
    async def work() -> None:
        queue = JobQueue(4)
        await queue.put(job("late", seconds=-1))
        wanted = job("a")
        await queue.put(wanted)
        assert await queue.take(32) == [wanted]

    run(work())


def test_who_waits_is_woken_and_who_is_refused_hears_why() -> None:
    async def work() -> None:
        queue = JobQueue(4)
        taking = [asyncio.create_task(queue.take(32)) for _ in range(2)]
        await asyncio.sleep(0)
        taking[0].cancel()  # an engine that has ended loses nothing
        first = job("a")
        await queue.put(first)
        assert await taking[1] == [first]
        last = job("b")
        await queue.put(last)
        queue.refuse_all(NoAnswer("ends"))
        with pytest.raises(NoAnswer, match="ends"):
            await last.answered
        assert len(queue) == 0
        first.answered.set_result(JobResult(answers=()))
        assert not first.is_wanted

    run(work())
