"""What the gates of a model decide on a split: on its inputs, and on the candidates that they are compared with.

Shape suffixes: K candidates, C of them in a chunk.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from uniperceiver.errors import listed
from uniperceiver.evaluation.split import AnyModel, Settings, Split, autocast, batches, drawn_samples
from uniperceiver.moe.statistics import GateFigures, GatePlace
from uniperceiver.records import Decision, Sequences, to_device
from uniperceiver.tasks.candidates import rows_of

_CHUNK = 1024  # candidates that are encoded together
_NEARLY_ALL = 0.95  # of the probability


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Holds how a model chooses its experts, and what it chose on some samples of each task."""

    condition: str  # the name of the routing
    experts: int
    k: int  # experts of a token
    figures: Sequence[GateFigures] = ()  # none where nothing is decided, as each task has its own copy


def idle_gates(experts: Experts) -> list[str]:
    """Say which gates tell no groups of tokens apart, and at which one expert does the work of all that are chosen.

    Both are seen in weights only: an expert that is chosen for every token has its full load, also with a weight of 0.
    """
    gates: dict[GatePlace, list[GateFigures]] = {}
    for figures in experts.figures:
        gates.setdefault(figures.place, []).append(figures)
    likeliest = {gate: {row.weight.index(max(row.weight)) for row in rows} for gate, rows in gates.items()}
    alike = [gate for gate, rows in gates.items() if len(rows) > 1 and len(likeliest[gate]) == 1]
    alone = [gate for gate, rows in gates.items() if sum(row.top1 for row in rows) > _NEARLY_ALL * len(rows)]
    lines = []
    if alike:
        lines.append(f"{_places(alike, gates)}: all groups of tokens have the same likeliest expert")
    if alone and experts.k > 1:
        lines.append(
            f"{_places(alone, gates)}: the likeliest expert has over {_NEARLY_ALL:.0%} of the probability, the others "
            "that are chosen do next to nothing"
        )
    return lines


def _places(some: Sequence[GatePlace], gates: Mapping[GatePlace, object]) -> str:
    return f"{len(some)} of {len(gates)} gates ({listed(map(str, sorted(some)), 6)})"


def decisions(model: AnyModel, split: Split, settings: Settings) -> Iterator[tuple[Decision, ...]]:
    """The decisions of all gates, batch by batch: of the inputs, and of the candidates, each of which is encoded once.

    Of labels and vocabularies at most `settings.limit` texts are taken, spread evenly, as of the samples.

    Raises:
        UserError: too many broken samples.
    """
    with torch.no_grad(), autocast(settings):
        for batch, _ in batches(split, settings):
            yield model.encode(batch.inputs, summary=batch.readout.summary).decisions
            if batch.candidates is not None:
                yield model.encode(batch.candidates, summary=True).decisions
        for sequences in _candidates(split, settings):
            yield model.encode(to_device(sequences, settings.device), summary=True).decisions


def _candidates(split: Split, settings: Settings) -> Iterator[Sequences]:
    """The texts of labels, or the vocabulary, in chunks; nothing where candidates come with the batch."""
    candidates = split.task.answer.all_candidates(split.task, settings.codec, split.index)
    if candidates is None:
        return
    sequences = candidates.sequences
    place_K = torch.tensor(drawn_samples(sequences.size, settings.limit))
    for place_C in torch.split(place_K, _CHUNK):
        yield rows_of(sequences, place_C)
