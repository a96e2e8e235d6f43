"""SERVICE: questions of all protocols go through here to the queue, and their answers back."""

import array
import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uniperceiver.errors import nearest
from uniperceiver.server.engine.channel import EngineFailed
from uniperceiver.server.engine.engines import Engines
from uniperceiver.server.http.guard import Passage
from uniperceiver.server.http.items import Item
from uniperceiver.server.http.refusals import Refusal
from uniperceiver.server.jobs import Answer, Job, JobQueue, JobResult, NoAnswer
from uniperceiver.server.metrics import Metrics
from uniperceiver.server.settings import ServerSettings

# What a model must have for a kind of question, by the name of the fact; and what is said where it has not.
_NEEDS: Mapping[str, tuple[str, str]] = {
    "experts": (
        "routing",
        "no experts are chosen in this model: it is dense, or its experts are folded; serve the run with --routed",
    ),
    "detect": ("boxes", "this model has no boxes; train one with model.image=regions"),
    "segment": ("masks", "this model has no masks; train one with a task of kind instance_segmentation"),
}


@dataclass(frozen=True, kw_only=True)
class ServiceAnswer:
    """What became of a question."""

    answers: Sequence[Answer]  # for each item
    notes: Sequence[str]


class Service:
    """A model that answers, whatever the protocol.

    Args:
        facts: what the engines say of their model.
    """

    def __init__(
        self, settings: ServerSettings, facts: Mapping[str, Any], queue: JobQueue, engines: Engines, metrics: Metrics
    ) -> None:
        self.settings, self.facts, self.queue, self.engines, self.metrics = settings, facts, queue, engines, metrics
        self.stopping = False
        self.started = int(time.time())
        self.held: Callable[[], int] = lambda: 0  # bytes of bodies; said by the guard

    @property
    def name(self) -> str:
        """What clients call the model."""
        return str(self.facts["name"])

    @property
    def is_ready(self) -> bool:
        """Whether a question would be taken now."""
        return not self.stopping and self.engines.ready > 0 and not self.queue.is_full

    async def ask(
        self, passage: Passage, kind: str, parameters: Mapping[str, Any], items: Sequence[Item]
    ) -> ServiceAnswer:
        """Ask the model.

        Raises:
            Refusal: it cannot answer this, no item can be used, or there is no engine for it now.
        """
        self._check(kind, parameters)
        places: dict[str, list[int]] = {}
        inputs = self.facts["tasks"].get(parameters.get("task"), {}).get("inputs", ())
        for place, item in enumerate(items):
            heard = (
                item.modality == "video" and "audio" in inputs and "video" not in inputs
            )  # a clip by its sound track
            places.setdefault("audio" if heard else item.modality, []).append(place)
        answers: dict[int, Answer] = {}
        notes: list[str] = []
        jobs = [
            Job(
                question={"kind": kind, "modality": modality, **parameters},
                items=[items[place].data for place in chosen],
                deadline=passage.start + self.settings.limits.request_seconds,
                answered=asyncio.get_running_loop().create_future(),
            )
            for modality, chosen in places.items()
        ]
        for job, chosen, answered in zip(jobs, places.values(), await self._answered(passage, jobs), strict=True):
            answers |= dict(zip(chosen, answered.answers, strict=True))
            notes += answered.notes
            passage.computing = max(passage.computing, answered.computing)
            passage.batch = max(passage.batch, answered.batch)
            passage.waiting = max(passage.waiting, (job.taken or time.monotonic()) - job.since)
        in_order = [answers[place] for place in range(len(items))]
        if all(answer.error is not None for answer in in_order):
            raise Refusal(422, str(in_order[0].error), "inputs[0]")
        return ServiceAnswer(answers=in_order, notes=notes)

    async def _answered(self, passage: Passage, jobs: Sequence[Job]) -> Sequence[JobResult]:
        try:
            if self.stopping:
                raise NoAnswer("the server stops; ask another one")
            for job in jobs:
                await self.queue.put(job)
            return await asyncio.gather(*(job.answered for job in jobs))
        except NoAnswer as error:
            raise Refusal(503, str(error)) from None
        except EngineFailed:
            raise Refusal(500, "an error of the engine; the server's log says more") from None
        finally:
            for job in jobs:
                job.answered.cancel()

    def _check(self, kind: str, parameters: Mapping[str, Any]) -> None:
        fact, reason = _NEEDS.get(kind, ("name", ""))
        if not self.facts.get(fact):
            raise Refusal(409, reason)
        limits, task = self.settings.limits, parameters.get("task")
        if task is not None and task not in self.facts["tasks"]:
            raise Refusal(422, f"unknown task {task[:80]!r}; {nearest(task, self.facts['tasks'])}", "task")
        if parameters.get("beam", 1) > limits.beam:
            raise Refusal(422, f"must be at most {limits.beam}", "beam")
        if (parameters.get("words") or 1) > limits.words:
            raise Refusal(422, f"must be at most {limits.words}", "words")

    def labels(self, labels: Sequence[str | Sequence[str]] | None, task: str | None) -> list[str]:
        """What the candidates of a question are called.

        Raises:
            Refusal: none are given, and the task has none.
        """
        if labels is not None:
            return [label if isinstance(label, str) else label[0] if label else "" for label in labels]
        own: list[str] = self.facts["tasks"].get(task, {}).get("labels", [])
        if not own:
            names = ", ".join(name for name, facts in self.facts["tasks"].items() if facts["labels"]) or "(none)"
            raise Refusal(422, f"give labels, or a task of the model that has labels: {names}", "labels")
        return own


def floats(answer: Answer) -> list[float]:
    """The numbers of an answer."""
    numbers = array.array("f", answer.floats)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def halves(numbers: list[float]) -> tuple[list[float], list[float]]:
    """The probabilities of a classified input, and the cosines behind them."""
    count = len(numbers) // 2
    return numbers[:count], numbers[count:]
