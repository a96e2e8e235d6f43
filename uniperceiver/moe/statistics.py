"""What gates decided, counted by the side and the modality of the tokens; padding is never counted.

Shape suffixes: T tokens or segment groups, t of them without padding, E experts, S segments, X any.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from uniperceiver.records import Decision, Side


class GatePlace(NamedTuple):
    """Where a gate stands in the model."""

    layer: int
    part: str  # "attention" or "ffn"
    gate: int  # of the part's gates

    def __str__(self) -> str:
        return f"layer {self.layer} {self.part}" + (f" gate {self.gate}" if self.gate else "")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Tokens that are counted together: those of one modality, of inputs or of candidates, at one gate."""

    layer: int
    part: str  # "attention" or "ffn"
    gate: int
    side: Side
    kind: str  # "visual" or "text"

    @property
    def place(self) -> GatePlace:
        """Where the gate stands."""
        return GatePlace(self.layer, self.part, self.gate)


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Sums over the tokens of a group, which add up over batches, and the figures made of them."""

    tokens: float
    wanted_E: Tensor  # float64 on the CPU, tokens that chose the expert, before any capacity
    chosen_E: Tensor  # float64, tokens that the expert computed
    weight_E: Tensor  # float64, the weights that the tokens gave it
    entropy: float  # of the probabilities, in nats
    top1: float  # the largest probability
    served: float  # tokens that some expert computed

    def __add__(self, other: "Statistics") -> "Statistics":
        names = self.__dataclass_fields__
        return Statistics(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def load(self) -> list[float]:
        """Each expert's share of the assignments that the gate wanted: they add up to 1."""
        return (self.wanted_E / self.wanted_E.sum().clamp(min=1.0)).tolist()

    @property
    def mean_weight(self) -> list[float]:
        """The mean weight of each expert over all tokens, 0 where it was not chosen."""
        return (self.weight_E / self.tokens).tolist()

    @property
    def drop_rate(self) -> float:
        """The share of wanted assignments for which the expert had no room."""
        return float(1.0 - self.chosen_E.sum() / self.wanted_E.sum().clamp(min=1.0)) if self.wanted_E.any() else 0.0

    @property
    def unserved(self) -> float:
        """The share of tokens that no expert computed: all their experts were full, or none of them chose the token."""
        return 1.0 - self.served / self.tokens

    @property
    def mean_entropy(self) -> float:
        """Mean entropy of a token's probabilities, in nats: log E where the gate is undecided, 0 where it is sure."""
        return self.entropy / self.tokens

    @property
    def mean_top1(self) -> float:
        """Mean probability of a token's likeliest expert."""
        return self.top1 / self.tokens


@dataclass(frozen=True, kw_only=True)
class GateFigures:
    """Holds what a gate decided for the tokens of one group of a task, as plain values for files and pictures.

    Shares and means have four decimals. The order of the fields is that of the lines in log.jsonl.
    """

    task: str
    layer: int
    part: str  # "attention" or "ffn"
    gate: int  # of the part's gates
    side: str  # "input" or "candidate"
    kind: str  # "visual" or "text"
    tokens: int
    load: Sequence[float]  # E: each expert's share of the assignments, which add up to 1
    weight: Sequence[float]  # E: each expert's mean weight
    drop_rate: float  # share of the assignments for which the expert had no room, 0 to 1
    unserved: float  # share of the tokens that no expert computed, 0 to 1
    entropy: float  # mean entropy of a token's probabilities, in nats
    top1: float  # mean probability of a token's likeliest expert

    @property
    def place(self) -> GatePlace:
        """Where the gate stands."""
        return GatePlace(self.layer, self.part, self.gate)


@torch.no_grad()
def statistics(decisions: Iterable[Decision]) -> dict[Group, Statistics]:
    """The statistics of each group that has tokens, in the order of the decisions."""
    by_group: dict[Group, Statistics] = {}
    for decision in decisions:
        features_TX, member_tS = _features(decision), _members(decision)
        # float32 is exact for counts of a batch; sums over batches are float64.
        sums_SX = (member_tS.t() @ features_TX).cpu().double()
        counts_S = member_tS.sum(dim=0).tolist()
        for segment, sums_X, tokens in zip(decision.segments, sums_SX, counts_S, strict=True):
            if tokens:
                group = Group(
                    layer=decision.layer,
                    part=decision.part,
                    gate=decision.gate,
                    side=segment.facts.side,
                    kind=segment.kind,
                )
                sums = _of(sums_X, tokens)
                by_group[group] = by_group[group] + sums if group in by_group else sums
    return by_group


def _features(decision: Decision) -> Tensor:
    """What is summed up of each token (or segment group), without padding: (t, 3 E + 3)."""
    parts = [
        decision.wanted_TE.float(),
        decision.chosen_TE.float(),
        decision.weight_TE.float(),
        torch.special.entr(decision.probability_TE).sum(dim=1, keepdim=True),
        decision.probability_TE.amax(dim=1, keepdim=True),
        decision.chosen_TE.any(dim=1, keepdim=True).float(),
    ]
    features_TX = torch.cat(parts, dim=1)
    return features_TX if decision.segment_T is None else features_TX[decision.segment_T >= 0]


def _members(decision: Decision) -> Tensor:
    """How many tokens of each segment a token (or segment group) stands for, float32 (t, S)."""
    segments = torch.arange(len(decision.segments), device=decision.wanted_TE.device)
    if decision.segment_T is not None:
        segment_t = decision.segment_T[decision.segment_T >= 0]
        return (segment_t[:, None] == segments).float()
    assert decision.tokens_S is not None
    group_S = torch.tensor(decision.group_S, device=decision.wanted_TE.device)
    group_G = torch.arange(len(decision.wanted_TE), device=decision.wanted_TE.device)
    return (group_G[:, None] == group_S) * decision.tokens_S


def _of(sums_X: Tensor, tokens: float) -> Statistics:
    wanted_E, chosen_E, weight_E = sums_X[:-3].view(3, -1)
    entropy, top1, served = sums_X[-3:].tolist()
    return Statistics(
        tokens=tokens,
        wanted_E=wanted_E,
        chosen_E=chosen_E,
        weight_E=weight_E,
        entropy=entropy,
        top1=top1,
        served=served,
    )


def gate_figures(task: str, group: Group, sums: Statistics) -> GateFigures:
    """Compute a group's figures from its sums."""
    return GateFigures(
        task=task,
        **asdict(group),
        tokens=round(sums.tokens),
        load=[round(share, 4) for share in sums.load],
        weight=[round(weight, 4) for weight in sums.mean_weight],
        drop_rate=round(sums.drop_rate, 4),
        unserved=round(sums.unserved, 4),
        entropy=round(sums.mean_entropy, 4),
        top1=round(sums.mean_top1, 4),
    )
