"""Groups of tokens as people see them: those that every gate treats alike are one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from uniperceiver.moe.statistics import GateFigures

Gate = tuple[str, int, int]  # part, gate of the part, layer

_SIDES, _KINDS = ("input", "candidate"), ("visual", "text")
_OF_GROUP = frozenset({"task", "side", "kind", "layer", "part", "gate", "tokens"})


@dataclass(frozen=True, kw_only=True)
class TokenGroup:
    """Tokens of one side and modality, of tasks that every gate treats alike."""

    tasks: tuple[str, ...]
    side: str
    kind: str
    by_gate: dict[Gate, GateFigures]  # those of the first of the tasks; counts are those of all

    @property
    def tokens(self) -> str:
        """What the tokens are: "visual", "text", "text candidates"."""
        return self.kind if self.side == "input" else f"{self.kind} candidates"


def token_groups(figures: Iterable[GateFigures]) -> list[TokenGroup]:
    """The groups: inputs before candidates, visual before text, tasks in their order."""
    gates: dict[tuple[str, str, str], dict[Gate, GateFigures]] = {}
    for each in figures:
        gates.setdefault((each.side, each.kind, each.task), {})[each.part, each.gate, each.layer] = each
    alike: dict[object, list[tuple[str, str, str]]] = {}
    for name, by_gate in gates.items():
        side, kind, _ = name
        alike.setdefault((side, kind, *((gate, _decided(each)) for gate, each in by_gate.items())), []).append(name)
    groups = [
        TokenGroup(tasks=tuple(task for _, _, task in names), side=side, kind=kind, by_gate=gates[names[0]])
        for names in alike.values()
        for side, kind, _ in names[:1]
    ]
    return sorted(groups, key=lambda group: (_place(_SIDES, group.side), _place(_KINDS, group.kind)))


def gates_of(groups: Iterable[TokenGroup]) -> list[Gate]:
    """All gates that decided something, attention before FFN, from the first layer to the last."""
    return sorted({gate for group in groups for gate in group.by_gate})


def _decided(each: GateFigures) -> tuple[object, ...]:
    """What was decided, without what it was decided for."""
    values = (getattr(each, field.name) for field in fields(each) if field.name not in _OF_GROUP)
    return tuple(tuple(value) if isinstance(value, Sequence) else value for value in values)


def _place(order: tuple[str, ...], name: str) -> int:
    return order.index(name) if name in order else len(order)
