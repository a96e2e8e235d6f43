"""BATCH -> A PART OF IT: some samples of a batch that is too large to be measured as a whole.

Shape suffixes: B samples, R read-outs, K candidates.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from uniperceiver.records import Batch
from uniperceiver.tasks.candidates import rows_of


def spread(size: int, count: int) -> Tensor:
    """So many row numbers of `size`, at equal distances."""
    return torch.arange(count) * size // count


def first_rows(batch: Batch, count: int) -> Batch:
    """Some samples of a batch, at equal distances, as wide as the whole: what is padded stays so."""
    size = len(batch.ids)
    if count == size:
        return batch
    rows_B = spread(size, count)
    place_B = torch.full((size,), -1, dtype=torch.int64)
    place_B[rows_B] = torch.arange(count)
    readout = batch.readout
    keep_R = place_B[readout.row_R] >= 0
    soft_RK = None if readout.soft_RK is None else readout.soft_RK[keep_R]
    if soft_RK is not None and batch.candidates is not None:
        soft_RK = soft_RK[:, rows_B]
    changes: dict[str, Any] = {
        "row_R": place_B[readout.row_R[keep_R]],
        "position_R": readout.position_R[keep_R],
        "target_R": readout.target_R[keep_R] if len(readout.target_R) == len(keep_R) else readout.target_R,
        "soft_RK": soft_RK,
    }
    return dataclasses.replace(
        batch,
        ids=tuple(batch.ids[row] for row in rows_B.tolist()),
        inputs=rows_of(batch.inputs, rows_B),
        readout=dataclasses.replace(readout, **changes),
        candidates=None if batch.candidates is None else rows_of(batch.candidates, rows_B),
    )
