"""Groups of tokens as people see them: those that every gate treats alike are one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from uniperceiver.moe.statistics import GateFigures

Gate = tuple[str, int, int]  # part, gate of the part, layer

_ORDER = {"input": 0, "candidate": 1, "visual": 0, "text": 1}  # other kinds of tokens come last
_OF_GROUP = frozenset({"task", "side", "kind", "layer", "part", "gate", "tokens"})


@dataclass(frozen=True, kw_only=True)
class TokenGroup:
    """Holds the gates of tokens of one side and modality, of tasks that every gate treats alike."""

    tasks: tuple[str, ...]
    side: str
    kind: str
    by_gate: dict[Gate, GateFigures]  # those of the first of the tasks; counts are those of all

    @property
    def tokens(self) -> str:
        """What the tokens are: "visual", "text", "text candidates"."""
        return self.kind if self.side == "input" else f"{self.kind} candidates"


def token_groups(figures: Iterable[GateFigures]) -> list[TokenGroup]:
    """Group what gates decided: inputs before candidates, visual before text, tasks in their order."""
    gates: dict[tuple[str, str, str], dict[Gate, GateFigures]] = {}
    for gate in figures:
        gates.setdefault((gate.side, gate.kind, gate.task), {})[gate.part, gate.gate, gate.layer] = gate
    alike: dict[object, list[tuple[str, str, str]]] = {}
    for name, by_gate in gates.items():
        side, kind, _ = name
        decided = ((gate, _decided(figures)) for gate, figures in by_gate.items())
        alike.setdefault((side, kind, *decided), []).append(name)
    groups = [
        TokenGroup(tasks=tuple(task for _, _, task in names), side=side, kind=kind, by_gate=gates[names[0]])
        for names in alike.values()
        for side, kind, _ in names[:1]
    ]
    return sorted(groups, key=lambda group: (_ORDER.get(group.side, 9), _ORDER.get(group.kind, 9)))


def gates_of(groups: Iterable[TokenGroup]) -> list[Gate]:
    """List all gates that decided something, attention before FFN, from the first layer to the last."""
    return sorted({gate for group in groups for gate in group.by_gate})


def _decided(figures: GateFigures) -> tuple[object, ...]:
    """What was decided, without what it was decided for."""
    values = (getattr(figures, field.name) for field in fields(figures) if field.name not in _OF_GROUP)
    return tuple(tuple(value) if isinstance(value, Sequence) else value for value in values)
