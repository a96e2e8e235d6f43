"""An engine: what it loads, and that large items keep nobody waiting who comes behind them."""

import asyncio
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.server.conftest import encoded
from tests.serving.test_predictor import pictures
from tests.tasks.test_moe_candidates import predictor
from uniperceiver.server.engine import frames
from uniperceiver.server.engine.answers import LookedAt, Noting
from uniperceiver.server.engine.channel import Channel
from uniperceiver.server.engine.frames import BrokenFrame, Frame
from uniperceiver.server.engine.worker import BACKENDS, Pipe, answer_all
from uniperceiver.server.jobs import Job, NoAnswer
from uniperceiver.server.settings import Limits, ModelSource


@pytest.mark.parametrize(
    ("condition", "routed", "folded"),
    [("attribute", False, True), ("attribute", True, False), ("task_specific", False, True), ("token", False, False)],
)
def test_experts_are_folded_where_that_changes_no_answer(
    tmp_path: Path, condition: str, routed: bool, folded: bool
) -> None:
    model = predictor(condition)
    model.save_pretrained(tmp_path / "model")
    served, facts = BACKENDS["torch"](ModelSource(path=str(tmp_path / "model"), name="tiny", routed=routed))
    assert (facts["folded"], facts["routing"]) == (folded, not folded)
    assert (served.saved.arch.merged is not None) is folded
    task = next(name for name, question in model.questions.items() if question == "classify")
    expected = model.classify(pictures(), task=task)
    torch.testing.assert_close(served.classify(pictures(), task=task), expected, atol=1e-5, rtol=0)


def large_picture() -> bytes:
    """25 megapixels in a few kilobytes."""
    buffer = io.BytesIO()
    Image.new("1", (5000, 5000)).save(buffer, "PNG")
    return buffer.getvalue()


def test_large_items_are_answered_beside_those_that_come_later() -> None:
    small = encoded(np.zeros((8, 8, 3), dtype=np.uint8))
    question = {"kind": "embed", "modality": "image"}
    asked = [
        Frame(
            head={"number": 0, "question": question, "counts": [1, 1], "seconds": [9, 9]},
            blobs=[large_picture(), small],
        ),
        Frame(head={"number": 1, "question": question, "counts": [2], "seconds": [9]}, blobs=[small, b"no picture"]),
    ]
    second_was_asked, out = threading.Event(), io.BytesIO()
    all_sent = threading.Event()

    def answer(head: dict, jobs: dict[int, LookedAt], *, until: float = 0.0) -> Frame:
        if until:  # of the large one alone
            assert second_was_asked.wait(30)
        if head["number"] == 1:
            second_was_asked.set()
        return Frame(head={"number": head["number"], "places": list(jobs), "large": until > 0})

    class Sent(Pipe):
        def send(self, frame: Frame) -> None:
            super().send(frame)
            if frame.head["large"]:
                all_sent.set()

    answer_all(io.BytesIO(b"".join(map(frames.pack, asked))), Sent(out), answer, Limits())
    assert all_sent.wait(30)
    out.seek(0)
    answers = [frames.read(out).head for _ in range(3)]  # type: ignore[union-attr]
    assert [(head["number"], head["places"], head["large"]) for head in answers] == [
        (0, [1], False),
        (1, [0], False),
        (0, [0], True),
    ]


def test_what_a_thread_says_is_its_own() -> None:
    behind = io.StringIO()
    noting, both = Noting(behind), threading.Barrier(2)

    def ask(name: str) -> list:
        both.wait(30)
        noting.write(f"said of {name}\n")
        both.wait(30)
        return []

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda name: noting.of(lambda: ask(name))[1], ["a", "b"]))
    assert said == [["said of a"], ["said of b"]]
    noting.write("of nobody")
    assert behind.getvalue() == "of nobody"


class Wires:
    """The standard streams of an engine that is not there."""

    def __init__(self) -> None:
        self.stdin, self.stdout, self.sent = self, asyncio.StreamReader(), list[bytes]()

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    async def drain(self) -> None:
        """Nothing is in the way."""

    def answer(self, number: int, places: list[int]) -> None:
        jobs = [{"answers": [{"values": {"of": [number, place]}, "error": None}], "notes": []} for place in places]
        head = {"number": number, "places": places, "seconds": 0.1, "jobs": jobs}
        self.stdout.feed_data(frames.pack(Frame(head=head, blobs=[b""] * len(places))))


def job() -> Job:
    answered = asyncio.get_running_loop().create_future()
    return Job(question={"kind": "embed"}, items=[b"x"], deadline=time.monotonic() + 9, answered=answered)


def test_an_engine_is_free_for_others_before_it_has_answered_all() -> None:
    async def scene() -> None:
        wires = Wires()
        channel = Channel(wires, Limits(), lambda items: None, lambda line: None)  # type: ignore[arg-type]
        first, second = [job(), job()], [job()]
        wires.answer(0, [1])
        await channel.ask(first)
        assert (first[0].answered.done(), first[1].answered.done()) == (False, True)
        wires.answer(1, [0])
        await channel.ask(second)
        assert second[0].answered.result().answers[0].values == {"of": [1, 0]}
        wires.answer(0, [0])
        assert (await first[0].answered).answers[0].values == {"of": [0, 0]}
        channel.close(NoAnswer("the end"))

    asyncio.run(scene())


@pytest.mark.parametrize("ends", [True, False])
def test_whoever_waits_for_a_large_item_hears_when_its_engine_ends_or_hangs(ends: bool) -> None:
    async def scene() -> None:
        wires = Wires()
        limits = Limits(request_seconds=0.1, overdue_seconds=0.1)
        channel = Channel(wires, limits, lambda items: None, lambda line: None)  # type: ignore[arg-type]
        large = job()
        wires.answer(0, [])
        await channel.ask([large])
        if ends:
            wires.stdout.feed_eof()
        with pytest.raises(BrokenFrame if ends else TimeoutError):
            await channel.listening
        channel.close(NoAnswer("ask again"))
        with pytest.raises(NoAnswer):
            large.answered.result()

    asyncio.run(scene())
