"""What training does with the decisions of the gates: balances them without a loss, writes down what the experts do,
and warns of collapse.

Shape suffixes: E experts.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from uniperceiver.model.model import Generalist
from uniperceiver.moe.balance import moved_bias
from uniperceiver.moe.statistics import GatePlace, Group, Statistics, gate_figures, statistics
from uniperceiver.parallel.world import World
from uniperceiver.records import Decision

DecisionsOfTasks = Mapping[str, Sequence[Decision]]

_LINES = 40  # of experts' figures in a whole run: they are long, and change slowly
_COLLAPSED, _RECOVERED = 0.9, 0.8  # share of the tokens that choose the same expert


def gate_loads(decisions: DecisionsOfTasks) -> dict[GatePlace, Tensor]:
    """Assignments of every expert, (E,), of each gate that decides token by token, over all tasks."""
    loads: dict[GatePlace, Tensor] = {}
    for decision in chain.from_iterable(decisions.values()):
        if decision.segment_T is not None:
            place = GatePlace(decision.layer, decision.part, decision.gate)
            count_E = decision.wanted_TE.sum(dim=0)
            loads[place] = loads[place] + count_E if place in loads else count_E
    return loads


@torch.no_grad()
def move_biases(model: Generalist, loads: Mapping[GatePlace, Tensor], rate: float) -> None:
    """Move the selection biases of all gates by the loads of a step; nothing at rate 0."""
    if not rate:
        return
    for place, count_E in loads.items():
        block = model.encoder.blocks[place.layer]
        bias_E = block.get_submodule(f"{place.part}.router.gates.{place.gate}").get_buffer("bias_E")
        bias_E.copy_(moved_bias(bias_E, count_E, rate))
    model.weights_changed()


class ExpertFigures:
    """Collects what is written down of the experts: about forty lines in a whole run, whatever its length.

    Of each task, the first step after the log line before is looked at: sums are small, decisions are not kept.

    Args:
        every: steps between lines of the log.
        steps: of the whole run.
        world: the processes that make the steps.
    """

    def __init__(self, every: int, steps: int, world: World | None = None) -> None:
        self._every, self._steps, self._world = every, steps, world or World()
        self._period = every * max(1, math.ceil(steps / (_LINES * every)))
        self._sums: dict[str, dict[Group, Statistics]] = {}
        self._looked: set[str] = set()  # tasks

    def add(self, step: int, decisions: DecisionsOfTasks, tasks: Iterable[str] | None = None) -> None:
        """Take in the step of that number, counted from 1.

        Args:
            tasks: those that the step has, if other processes have decisions, too.
        """
        line = min(math.ceil(step / self._every) * self._every, self._steps)
        if line % self._period and line != self._steps:
            return
        new = [task for task in dict.fromkeys(decisions if tasks is None else tasks) if task not in self._looked]
        if not new:
            return
        mine = [(task, statistics(decisions[task])) for task in new if decisions.get(task)]
        counted = mine if self._world.size == 1 else self._gathered(mine)
        for task, sums in counted:
            before = self._sums.setdefault(task, {})
            for group, values in sums.items():
                before[group] = before[group] + values if group in before else values
        self._looked |= {task for task in new if self._world.size > 1 or task in self._sums}

    def _gathered(
        self, mine: Sequence[tuple[str, dict[Group, Statistics]]]
    ) -> Iterator[tuple[str, dict[Group, Statistics]]]:
        """What all processes have counted of tasks."""
        packed = [[task, [[asdict(group), vars(sums)] for group, sums in counted.items()]] for task, counted in mine]
        for of_process in self._world.gather(packed):
            for task, lines in of_process:
                yield task, {Group(**group): Statistics(**sums) for group, sums in lines}

    def take(self) -> tuple[dict[str, Any], dict[str, float]]:
        """The values of a log line and numbers for TensorBoard; empty where nothing was due, or no gate decided."""
        by_task, self._sums, self._looked = self._sums, {}, set()
        groups = [
            asdict(gate_figures(task, group, sums))
            for task, by_group in by_task.items()
            for group, sums in by_group.items()
        ]
        return ({"groups": groups} if groups else {}), expert_scalars(by_task)


def expert_scalars(by_task: Mapping[str, Mapping[Group, Statistics]]) -> dict[str, float]:
    """Numbers for TensorBoard: of each task, modality and gate; and of each gate, every expert's load over all tasks.

    Not every expert of every task, which would be thousands of curves.
    """
    values: dict[str, float] = {}
    totals: dict[GatePlace, Statistics] = {}
    for task, by_group in by_task.items():
        for group, sums in by_group.items():
            place = group.place
            totals[place] = totals[place] + sums if place in totals else sums
            name = f"{task}/{group.side}_{group.kind}/{_tag(place)}"
            values |= {
                f"{name}/largest_load": max(sums.load),
                f"{name}/drop_rate": sums.drop_rate,
                f"{name}/entropy": sums.mean_entropy,
                f"{name}/top1": sums.mean_top1,
            }
    for place, sums in totals.items():
        values |= {f"all_tasks/{_tag(place)}/load_{expert}": load for expert, load in enumerate(sums.load)}
    return values


def _tag(place: GatePlace) -> str:
    return f"layer_{place.layer}_{place.part}" + (f"_gate_{place.gate}" if place.gate else "")


@dataclass(frozen=True, kw_only=True)
class MostLoaded:
    """The expert that most tokens choose at a gate."""

    place: GatePlace
    expert: int
    tokens: float  # the share of the tokens that choose it

    @classmethod
    def of(cls, place: GatePlace, count_E: Tensor, k: int) -> "MostLoaded":
        """The one of a gate that gave its experts so many assignments, k to each token."""
        count, expert = count_E.max(dim=0)
        return cls(place=place, expert=int(expert.item()), tokens=count.item() / float(count_E.sum()) * k)

    def figures(self) -> dict[str, Any]:
        """Plain values for a line of the log."""
        return self.place._asdict() | {"expert": self.expert, "tokens": self.tokens}

    def __str__(self) -> str:
        return f"{self.place} (expert {self.expert}: {self.tokens:.0%})"


class CollapseAlarm:
    """Notices gates at which nearly every token chooses the same expert.

    A gate has collapsed when over `steps` steps one expert got at least 0.9 / k of the assignments, that is, when 90 %
    of the tokens chose it; it has recovered when no expert gets more than 0.8 / k. Looked at after every `steps`
    steps, so it is noticed at most 2 * `steps` - 1 steps after it began. Nothing of this is saved: after a resumed
    start, a gate that is still collapsed is reported once more.

    Args:
        k: experts of a token. Where that is more than half of them, an expert that everybody chooses is no collapse,
            and nothing is watched.
    """

    def __init__(self, k: int, steps: int = 20) -> None:
        self._k, self._steps = k, steps
        self._seen = 0
        self._loads: dict[GatePlace, Tensor] = {}
        self._collapsed: set[GatePlace] = set()

    def add(self, loads: Mapping[GatePlace, Tensor]) -> tuple[list[MostLoaded], list[MostLoaded]]:
        """Take in the loads of a step: gates that have collapsed by now, and gates that have recovered since."""
        for place, count_E in loads.items():
            self._loads[place] = self._loads[place] + count_E if place in self._loads else count_E
        self._seen += 1
        if self._seen < self._steps:
            return [], []
        totals, self._loads, self._seen = self._loads, {}, 0
        gates = [
            MostLoaded.of(place, count_E, self._k)
            for place, count_E in totals.items()
            if 2 * self._k <= len(count_E) and bool(count_E.any())
        ]
        collapsed = [gate for gate in gates if gate.tokens >= _COLLAPSED and gate.place not in self._collapsed]
        recovered = [gate for gate in gates if gate.tokens <= _RECOVERED and gate.place in self._collapsed]
        self._collapsed |= {gate.place for gate in collapsed}
        self._collapsed -= {gate.place for gate in recovered}
        return collapsed, recovered


def collapse_warning(step: int, collapsed: Iterable[MostLoaded]) -> str:
    """One line for people, with the mend."""
    return (
        f"step {step}: routing has collapsed: nearly every token chooses the same expert at "
        f"{', '.join(map(str, collapsed))}; if it stays so, start anew with a higher moe.balance.switch, such as 0.1"
    )
