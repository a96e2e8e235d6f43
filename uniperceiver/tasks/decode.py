"""Generation of a text, word by word, with the vocabulary as candidates: greedy (one beam) and beam search.

Shape suffixes: B sequences, J beams, V vocabulary, D width, S generated words.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from uniperceiver.errors import UserError
from uniperceiver.modalities import TEXT
from uniperceiver.records import Part, Sequences
from uniperceiver.tasks.likelihood import log_likelihood

_IMPOSSIBLE = -999.0  # log-probability of continuing a finished text, as in the original release


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The best text of every sequence."""

    ids_BS: Tensor  # int64, up to and including the first end token, then end tokens
    log_likelihood_BS: Tensor  # float32, of each word; 0 after the end


def prefix_with_query(prefix: Sequences, answer: int) -> Sequences:
    """What is seen (or nothing), followed by the query for the first word of a text."""
    query_B1 = torch.full((prefix.size, 1), answer, dtype=torch.int64)
    ones_B1 = torch.ones_like(query_B1)
    query = Part(modality=TEXT, values=query_B1, order_BN=ones_B1, query_BN=ones_B1.bool())
    return Sequences(facts=prefix.facts, parts=(*prefix.media, query))


class Cache(Protocol):
    """What a model remembers of the texts in the making, one row per beam."""

    def repeat(self, times: int) -> None: ...
    def reorder(self, parent_B: Tensor) -> None: ...


C = TypeVar("C", bound=Cache)


class Writer(Protocol[C]):
    """What generation asks of a model."""

    def begin(self, prefix: Sequences, words: int) -> tuple[C, Tensor]: ...
    def extend(self, cache: C, word_B: Tensor, place: int) -> Tensor: ...


@torch.no_grad()
def generate(
    model: Writer[C],
    prefix: Sequences,
    logits_of: Callable[[Tensor], Tensor],
    *,
    end: int,
    beams: int,
    words: int,
    length_penalty: float = 0.0,
    on_step: Callable[[Tensor], None] | None = None,
) -> Generated:
    """Beam search, one encoder pass per new word (the word and the query for the next go together).

    A finished beam keeps its score and can only be continued by end tokens. With `length_penalty` a > 0 a text's
    score is divided by (words before the end + 1) ** a at the close.

    Args:
        model: with `begin` and `extend` (model/model.py).
        prefix: sequences that end in a single query (`prefix_with_query`).
        logits_of: encoder outputs (N, D) to logits over the vocabulary (N, V).
        end: id of the end token.
        words: most words to generate, the end token counted.
        on_step: called with the logits of each step, rows sequence-major.
    """
    batch = prefix.size
    cache, x_RD = model.begin(prefix, words)
    beam = _nothing_yet(batch, x_RD.device)
    for place in range(1, words + 1):
        logits_RV = logits_of(x_RD)
        if beams > logits_RV.shape[1]:
            raise UserError(f"beam: {beams} beams, but only {logits_RV.shape[1]} words to choose from")
        if on_step is not None:
            on_step(logits_RV)
        beam, parent_R = _grow(beam, log_likelihood(logits_RV), batch, beams, end)
        if place == words or bool((beam.ids_RS == end).any(dim=1).all()):
            break
        cache.repeat(beams) if place == 1 else cache.reorder(parent_R)
        x_RD = model.extend(cache, beam.ids_RS[:, -1], place)
    return _winners(beam, batch, end, length_penalty)


@dataclass(frozen=True, kw_only=True)
class _Beams:
    """Texts in the making; rows are sequence-major."""

    ids_RS: Tensor
    step_RS: Tensor  # log-probability of each word
    score_R: Tensor  # their sum


def _nothing_yet(batch: int, device: torch.device) -> _Beams:
    zeros_RS = torch.zeros(batch, 0, device=device)
    return _Beams(ids_RS=zeros_RS.long(), step_RS=zeros_RS, score_R=torch.zeros(batch, device=device))


def _grow(beam: _Beams, step_RV: Tensor, batch: int, beams: int, end: int) -> tuple[_Beams, Tensor]:
    """The best continuations by a word, and the row that each of them continues."""
    step_RV = _after_end(step_RV, beam.ids_RS, end)
    parent_R, word_R = _best(beam.score_R[:, None] + step_RV, batch, beams)
    gained_R = step_RV[parent_R, word_R]
    grown = _Beams(
        ids_RS=torch.cat([beam.ids_RS[parent_R], word_R[:, None]], dim=1),
        step_RS=torch.cat([beam.step_RS[parent_R], gained_R[:, None]], dim=1),
        score_R=beam.score_R[parent_R] + gained_R,
    )
    return grown, parent_R


def _after_end(step_RV: Tensor, ids_RS: Tensor, end: int) -> Tensor:
    """Log-probabilities in which a finished text can only go on with the end token, at no cost."""
    if ids_RS.shape[1] == 0:
        return step_RV
    forced_V = torch.full_like(step_RV[0], _IMPOSSIBLE)
    forced_V[end] = 0.0
    return torch.where((ids_RS[:, -1] == end)[:, None], forced_V, step_RV)


def _best(score_RV: Tensor, batch: int, beams: int) -> tuple[Tensor, Tensor]:
    """Row and word of the best `beams` continuations of every sequence, best first, each (B * J,)."""
    rows, vocabulary = score_RV.shape
    flat_BX = score_RV.view(batch, -1)
    index_BJ = flat_BX.topk(beams, dim=1).indices
    parent_BJ = index_BJ // vocabulary + torch.arange(batch, device=score_RV.device)[:, None] * (rows // batch)
    return parent_BJ.reshape(-1), (index_BJ % vocabulary).reshape(-1)


def _winners(beam: _Beams, batch: int, end: int, length_penalty: float) -> Generated:
    score_R = beam.score_R
    if length_penalty > 0:
        score_R = score_R / ((beam.ids_RS != end).sum(dim=1) + 1) ** length_penalty
    beams = len(score_R) // batch
    best_B = score_R.view(batch, beams).argmax(dim=1)
    row_B = torch.arange(batch, device=score_R.device) * beams + best_B
    return Generated(ids_BS=beam.ids_RS[row_B], log_likelihood_BS=beam.step_RS[row_B])
