"""Token ids of different lengths as one padded tensor.

Shape suffixes: B sequences, N tokens.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from uniperceiver.modalities import TEXT
from uniperceiver.records import Facts, Part, Sequences


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
    """Ids padded with 0 to the longest row, (B, N) int64, and which are valid, (B, N) bool; None without padding."""
    widest = max(map(len, rows))
    ids_BN = torch.tensor([[*ids, *[0] * (widest - len(ids))] for ids in rows], dtype=torch.int64)
    lengths_B = torch.tensor([len(ids) for ids in rows])
    if bool((lengths_B == widest).all()):
        return ids_BN, None
    return ids_BN, torch.arange(widest) < lengths_B[:, None]


def widened(sequences: Sequences, multiple: int) -> Sequences:
    """The sequences with their text padded to a multiple of so many tokens; nothing else changes."""
    text = sequences.text
    more = 0 if text is None else -text.values.shape[1] % multiple
    if text is None or not more:
        return sequences

    def padded(value_BN: Tensor | None, fill: bool | int) -> Tensor | None:
        return None if value_BN is None else F.pad(value_BN, (0, more), value=fill)

    valid_BN = torch.ones_like(text.values, dtype=torch.bool) if text.valid_BN is None else text.valid_BN
    wider = replace(
        text,
        values=F.pad(text.values, (0, more)),
        valid_BN=F.pad(valid_BN, (0, more), value=False),
        position_BN=padded(text.position_BN, 0),
        order_BN=padded(text.order_BN, text.values.shape[1] + more),  # a word that nobody sees
        query_BN=padded(text.query_BN, False),
    )
    return replace(sequences, parts=(*sequences.media, wider))


def cut(ids: Sequence[int], end: int, length: int | None = None) -> list[int]:
    """The ids and the end token, at most `length` in all; the end token is kept."""
    return [*ids, end] if length is None else [*ids[: length - 1], end]


def text_sequences(texts: Sequence[Sequence[int]], facts: Facts, end: int, length: int | None = None) -> Sequences:
    """Texts as sequences [ids..., end], padded to the longest, cut to `length` tokens."""
    ids_BN, valid_BN = pad([cut(ids, end, length) for ids in texts])
    return Sequences(facts=facts, parts=(Part(modality=TEXT, values=ids_BN, valid_BN=valid_BN),))
