"""DATA -> FACTS: how many samples the splits of a run have, and how many texts are longer than their task takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from uniperceiver.data.formats import Source
from uniperceiver.data.tasks import TaskData
from uniperceiver.records import Sample
from uniperceiver.tasks.candidates import TextCodec

_LOOKED_AT = 1000  # texts of a source
_MOST_CHARACTERS = 2_000_000  # of these, as a text may be a book


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """Holds what a split of a task is: its size, and what is cut of its first texts."""

    task: str
    split: str
    samples: int
    classes: int | None  # None: of a task without classes
    texts: int  # that were looked at
    cut: int  # of these
    length: int  # tokens from which on a text is cut


def split_facts(tasks: Sequence[TaskData], codec: TextCodec) -> list[SplitFacts]:
    """Count the samples of every split of the tasks, and the texts that are cut among its first ones."""
    facts = []
    for data in tasks:
        for split, source in data.sources.items():
            lengths = [
                length
                for text in _first_texts(source)
                for length in data.task.answer.lengths(data.task, Sample(id="", text=text, captions=(text,)), codec)
            ]
            facts.append(
                SplitFacts(
                    task=data.task.name,
                    split=split,
                    samples=len(source),
                    classes=len(data.task.labels) or None,
                    texts=len(lengths),
                    cut=sum(length > data.preprocess.length for length in lengths),
                    length=data.preprocess.length,
                )
            )
    return facts


def cut_notes(tasks: Sequence[TaskData], codec: TextCodec) -> list[str]:
    """A line for each source of which texts are cut: how many, among the first that it has. `data check` counts all."""
    return [
        f"{facts.task}/{facts.split}: {facts.cut:,} of the first {facts.texts:,} texts are longer than length "
        f"{facts.length} and are cut; raise length, if they matter"
        for facts in split_facts(tasks, codec)
        if facts.cut
    ]


def _first_texts(source: Source) -> Iterator[str]:
    """Some texts of samples, without those of classes."""
    of_classes = sum(map(len, source.classes or ()))
    characters = 0
    for text in islice(source.texts(), of_classes, of_classes + _LOOKED_AT):
        yield text
        characters += len(text)
        if characters > _MOST_CHARACTERS:
            return
