"""TEXTS -> WHAT IS CUT: how many texts of a run are longer than their task takes, said before it trains."""

from collections.abc import Iterator, Sequence
from itertools import islice

from uniperceiver.data.formats import Source
from uniperceiver.data.tasks import TaskData
from uniperceiver.records import Sample
from uniperceiver.tasks.candidates import TextCodec

_LOOKED_AT = 1000  # texts of a source
_MOST_CHARACTERS = 2_000_000  # of these, as a text may be a book


def cut_notes(tasks: Sequence[TaskData], codec: TextCodec) -> list[str]:
    """A line for each source of which texts are cut: how many, among the first that it has. `data check` counts all."""
    notes = []
    for data in tasks:
        for split, source in data.sources.items():
            lengths = [
                length
                for text in _first_texts(source)
                for length in data.task.answer.lengths(data.task, Sample(id="", text=text, captions=(text,)), codec)
            ]
            most = data.preprocess.length
            if longer := sum(length > most for length in lengths):
                notes.append(
                    f"{data.task.name}/{split}: {longer:,} of the first {len(lengths):,} texts are longer than length "
                    f"{most} and are cut; raise length, if they matter"
                )
    return notes


def _first_texts(source: Source) -> Iterator[str]:
    """Some texts of samples, without those of classes."""
    of_classes = sum(map(len, source.classes or ()))
    characters = 0
    for text in islice(source.texts(), of_classes, of_classes + _LOOKED_AT):
        yield text
        characters += len(text)
        if characters > _MOST_CHARACTERS:
            return
