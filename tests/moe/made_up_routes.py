"""Decisions of imaginary gates, of many shapes: by rows of segments, and token by token."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.kernels.by_group import Span
from uniperceiver.records import Facts, Segment
from uniperceiver.streams import numpy_stream, torch_stream


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Segments as spans of tokens with their rows, and the experts of each row."""

    name: str
    tokens: int
    experts: int
    spans: tuple[Span, ...]
    chosen: tuple[tuple[int, ...], ...]
    weight_Gk: Tensor


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The experts of each token; padding has none."""

    name: str
    weight_TE: Tensor  # 0 where not chosen
    chosen_TE: Tensor


def made_up_rows(count: int) -> list[Rows]:
    """The first of them have no token, one token, every expert, and rows with the same experts."""
    return [_rows(f"rows {index}", index, numpy_stream(0, "rows", index)) for index in range(count)]


def _rows(name: str, index: int, rng: np.random.Generator) -> Rows:
    tokens = (0, 1, int(rng.integers(2, 200)))[min(index % 20, 2)]
    experts = int(rng.integers(1, 17))
    k = experts if index % 7 == 3 else min(experts, int(rng.integers(1, 5)))
    rows = int(rng.integers(1, 4))
    chosen = [tuple(rng.permutation(experts)[:k].tolist()) for _ in range(rows)]
    if index % 5 == 4:
        chosen = [chosen[0][::-1], *chosen[1:-1], chosen[0]]
    segments = len(chosen) + int(rng.integers(0, 3))
    cuts = [0, *sorted(rng.integers(0, tokens + 1, size=segments - 1).tolist()), tokens]
    group_S = [*range(len(chosen)), *rng.integers(len(chosen), size=segments - len(chosen)).tolist()]
    spans = [(start, stop, row) for start, stop, row in zip(cuts, cuts[1:], group_S, strict=False)]
    weight_Gk = torch.rand(len(chosen), k, generator=torch_stream(0, name)) + 0.05
    if index % 2:
        weight_Gk = weight_Gk / weight_Gk.sum(dim=1, keepdim=True)
    return Rows(
        name=name, tokens=tokens, experts=experts, spans=tuple(spans), chosen=tuple(chosen), weight_Gk=weight_Gk
    )


def made_up_tokens(count: int) -> list[Tokens]:
    """In turns: ragged (as experts that choose), all to the same experts, padding only, every expert, some padding."""
    return [_tokens(f"tokens {index}", index, numpy_stream(0, "tokens", index)) for index in range(count)]


def _tokens(name: str, index: int, rng: np.random.Generator) -> Tokens:
    tokens = (0, 1, int(rng.integers(2, 200)))[min(index % 20, 2)]
    experts = 64 if index % 25 == 24 else int(rng.integers(1, 17))
    k = min(experts, int(rng.integers(1, 5)))
    score_TE = torch.from_numpy(rng.random((tokens, experts), dtype=np.float32))
    kind: Callable[[], Tensor] = (
        lambda: score_TE > 0.7,
        lambda: _top(score_TE * 0 + score_TE[:1], k),
        lambda: score_TE > 2.0,
        lambda: score_TE < 2.0,
        lambda: _top(score_TE, k) & (score_TE[:, :1] > 0.3),
        lambda: _top(score_TE, k),
        lambda: _top(score_TE, k),
    )[index % 7]
    chosen_TE = kind()
    return Tokens(name=name, weight_TE=score_TE * chosen_TE, chosen_TE=chosen_TE)


def _top(score_TE: Tensor, k: int) -> Tensor:
    return torch.zeros_like(score_TE, dtype=torch.bool).scatter_(1, score_TE.topk(k, dim=1).indices, True)


def context_of(tokens: int, *, sequences: int = 1, cut: int = 0, token_first: bool = True) -> ForwardContext:
    """A pass over sequences of that many tokens, cut into two segments there (0: one segment)."""
    facts = Facts(side="input", inputs=("visual", "text"), targets=("text",))
    places = [(0, tokens, "visual")] if not cut else [(0, cut, "visual"), (cut, tokens, "text")]
    segments = tuple(
        Segment(start=start, stop=stop, kind=kind, causal=False, facts=facts) for start, stop, kind in places
    )
    return ForwardContext(
        sequences=sequences, length=tokens, segments=segments, device=torch.device("cpu"), token_first=token_first
    )
