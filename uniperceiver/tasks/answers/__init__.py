"""The kinds of answers, one file each. To add one, add a file and a line; `evaluation/answers` has the other half."""

from uniperceiver.tasks.answers.captions import Captions
from uniperceiver.tasks.answers.kind import AnswerKind
from uniperceiver.tasks.answers.labels import Labels
from uniperceiver.tasks.answers.masked_words import MaskedWords
from uniperceiver.tasks.answers.regions import RegionLabels
from uniperceiver.tasks.answers.retrieval import Retrieval
from uniperceiver.tasks.answers.tags import Tags

ANSWERS: dict[str, AnswerKind] = {
    "labels": Labels(),
    "tags": Tags(),
    "regions": RegionLabels(),
    "masked_words": MaskedWords(),
    "captions": Captions(),
    "retrieval": Retrieval(),
}


def answer_name(candidates: str, read_at: str) -> str:
    """The name in `ANSWERS` of the kind that a task with these fields has.

    Raises:
        ValueError: there is none; the line says which there are.
    """
    for name, kind in ANSWERS.items():
        if kind.candidates == candidates and read_at in kind.read_at:
            return name
    places = dict.fromkeys(place for kind in ANSWERS.values() for place in kind.read_at)
    if read_at not in places:
        raise ValueError(f"unknown read_at {read_at!r}")
    possible = [kind.candidates for kind in ANSWERS.values() if read_at in kind.read_at]
    raise ValueError(f"read_at={read_at!r} goes with candidates {' or '.join(possible)}, not {candidates!r}")
