"""Which segments a task's sequences consist of, before there is any sequence: what merging needs to know."""

from collections.abc import Iterable

from uniperceiver.records import Facts, Segment
from uniperceiver.tasks.task import Task


def segments_of(task: Task, index: int | None = None) -> tuple[Segment, ...]:
    """The segments of a task's inputs, then those of its candidates, in training, evaluation and generation alike.

    As the tokenizer joins them (tokenizers/join.py): what is seen stands first and is seen by all; text behind it, or
    alone, is causal where its next word is asked for. Each has a single token here, since lengths depend on samples.

    Args:
        index: the task's index among the tasks of the run.
    """
    inputs, candidates = task.facts("input", index), task.facts("candidate", index)
    return (
        *_joined(inputs.inputs, inputs, causal=task.read_at == "next"),
        *_joined(candidates.targets, candidates, causal=False),
    )


def _joined(kinds: Iterable[str], facts: Facts, *, causal: bool) -> Iterable[Segment]:
    return (
        Segment(start=place, stop=place + 1, kind=kind, causal=causal and kind == "text", facts=facts)
        for place, kind in enumerate(kinds)
    )
