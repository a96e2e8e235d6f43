"""What training does with the decisions of the gates: balances them without a loss, writes down what the experts do,
and warns of collapse.

Shape suffixes: E experts.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from uniperceiver.model.model import Generalist
from uniperceiver.moe.balance import moved_bias
from uniperceiver.moe.statistics import Group, Statistics, gate_figures, statistics
from uniperceiver.records import Decision

Place = tuple[int, str, int]  # layer, part, gate
Decisions = Mapping[str, Sequence[Decision]]  # by task

_LINES = 40  # of experts' figures in a whole run: they are long, and change slowly
_COLLAPSED, _RECOVERED = 0.9, 0.8  # share of the tokens that choose the same expert


def loads(decisions: Decisions) -> dict[Place, Tensor]:
    """Assignments of every expert, (E,), of each gate that decides token by token, over all tasks."""
    found: dict[Place, Tensor] = {}
    for decision in chain.from_iterable(decisions.values()):
        if decision.segment_T is not None:
            place = (decision.layer, decision.part, decision.gate)
            count_E = decision.wanted_TE.sum(dim=0)
            found[place] = found[place] + count_E if place in found else count_E
    return found


@torch.no_grad()
def move_biases(model: Generalist, decisions: Decisions, rate: float) -> None:
    """Move the selection biases of all gates by the loads of a step; nothing at rate 0."""
    if not rate:
        return
    for (layer, part, gate), count_E in loads(decisions).items():
        bias_E = model.encoder.blocks[layer].get_submodule(f"{part}.router.gates.{gate}").get_buffer("bias_E")
        bias_E.copy_(moved_bias(bias_E, count_E, rate))


class ExpertFigures:
    """Collects what is written down of the experts: about forty lines in a whole run, whatever its length.

    Of each task, the first step after the log line before is looked at: sums are small, decisions are not kept.

    Args:
        every: steps between lines of the log.
        steps: of the whole run.
    """

    def __init__(self, every: int, steps: int) -> None:
        self._every, self._steps = every, steps
        self._period = every * max(1, math.ceil(steps / (_LINES * every)))
        self._found: dict[str, dict[Group, Statistics]] = {}

    def add(self, step: int, decisions: Decisions) -> None:
        """Take in the step of that number, counted from 1."""
        line = min(math.ceil(step / self._every) * self._every, self._steps)
        if line % self._period and line != self._steps:
            return
        for task, several in decisions.items():
            if several and task not in self._found:
                self._found[task] = statistics(several)

    def take(self) -> tuple[dict[str, Any], dict[str, float]]:
        """The values of a log line and numbers for TensorBoard; empty where nothing was due, or no gate decided."""
        found, self._found = self._found, {}
        groups = [asdict(gate_figures(task, *each)) for task, several in found.items() for each in several.items()]
        return ({"groups": groups} if groups else {}), scalars(found)


def scalars(found: Mapping[str, Mapping[Group, Statistics]]) -> dict[str, float]:
    """Numbers for TensorBoard: of each task, modality and gate; and of each gate, every expert's load over all tasks.

    Not every expert of every task, which would be thousands of curves.
    """
    values: dict[str, float] = {}
    totals: dict[Place, Statistics] = {}
    for task, several in found.items():
        for group, one in several.items():
            place = (group.layer, group.part, group.gate)
            totals[place] = totals[place] + one if place in totals else one
            name = f"{task}/{group.side}_{group.kind}/{_tag(place)}"
            values |= {
                f"{name}/largest_load": max(one.load),
                f"{name}/drop_rate": one.drop_rate,
                f"{name}/entropy": one.mean_entropy,
                f"{name}/top1": one.mean_top1,
            }
    for place, one in totals.items():
        values |= {f"all_tasks/{_tag(place)}/load_{expert}": load for expert, load in enumerate(one.load)}
    return values


def _tag(place: Place) -> str:
    layer, part, gate = place
    return f"layer_{layer}_{part}" + (f"_gate_{gate}" if gate else "")


@dataclass(frozen=True, kw_only=True)
class Change:
    """What the alarm noticed at a gate."""

    layer: int
    part: str
    gate: int
    expert: int  # the most loaded one
    tokens: float  # the share of the tokens that choose it

    def __str__(self) -> str:
        gate = f" gate {self.gate}" if self.gate else ""
        return f"layer {self.layer} {self.part}{gate} (expert {self.expert}: {self.tokens:.0%})"


class CollapseAlarm:
    """Notices gates at which nearly every token chooses the same expert.

    A gate has collapsed when over `steps` steps one expert got at least 0.9 / k of the assignments, that is, when 90 %
    of the tokens chose it; it has recovered when no expert gets more than 0.8 / k. Looked at after every `steps`
    steps, so it is noticed at most 2 * `steps` - 1 steps after it began. Nothing of this is saved: after a resumed
    start, a gate that is still collapsed is told once more.

    Args:
        k: experts of a token. Where that is more than half of them, an expert that everybody chooses is no collapse,
            and nothing is watched.
    """

    def __init__(self, k: int, steps: int = 20) -> None:
        self._k, self._steps = k, steps
        self._seen = 0
        self._counts: dict[Place, Tensor] = {}
        self._collapsed: set[Place] = set()

    def add(self, counts: Mapping[Place, Tensor]) -> tuple[list[Change], list[Change]]:
        """Take in the loads of a step: gates that are found collapsed, and gates that have recovered since."""
        for place, count_E in counts.items():
            self._counts[place] = self._counts[place] + count_E if place in self._counts else count_E
        self._seen += 1
        if self._seen < self._steps:
            return [], []
        found, self._counts, self._seen = self._counts, {}, 0
        changes = [_most_loaded(place, count_E, self._k) for place, count_E in found.items() if self._watched(count_E)]
        collapsed = [each for each in changes if each.tokens >= _COLLAPSED and _place(each) not in self._collapsed]
        recovered = [each for each in changes if each.tokens <= _RECOVERED and _place(each) in self._collapsed]
        self._collapsed |= set(map(_place, collapsed))
        self._collapsed -= set(map(_place, recovered))
        return collapsed, recovered

    def _watched(self, count_E: Tensor) -> bool:
        return 2 * self._k <= len(count_E) and bool(count_E.any())


def _most_loaded(place: Place, count_E: Tensor, k: int) -> Change:
    layer, part, gate = place
    count, expert = (each.item() for each in count_E.max(dim=0))
    share = count / float(count_E.sum())
    return Change(layer=layer, part=part, gate=gate, expert=int(expert), tokens=share * k)


def _place(change: Change) -> Place:
    return change.layer, change.part, change.gate


def collapse_warning(step: int, collapsed: Iterable[Change]) -> str:
    """One line for people, with the mend."""
    return (
        f"step {step}: routing has collapsed: nearly every token chooses the same expert at "
        f"{', '.join(map(str, collapsed))}; if it stays so, start anew with a higher moe.balance.switch, such as 0.1"
    )
