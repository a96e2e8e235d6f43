"""Token ids of different lengths as one padded tensor.

Shape suffixes: B sequences, N tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

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


def cut(ids: Sequence[int], end: int, length: int | None = None) -> list[int]:
    """The ids and the end token, at most `length` in all; the end token is kept."""
    return [*ids, end] if length is None else [*ids[: length - 1], end]


def text_sequences(texts: Sequence[Sequence[int]], facts: Facts, end: int, length: int | None = None) -> Sequences:
    """Texts as sequences [ids..., end], padded to the longest, cut to `length` tokens."""
    ids_BN, valid_BN = pad([cut(ids, end, length) for ids in texts])
    return Sequences(facts=facts, parts=(Part(modality=TEXT, values=ids_BN, valid_BN=valid_BN),))
