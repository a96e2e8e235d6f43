"""The one question in code: encode the input, read it out, compare it with the candidates.

Shape suffixes: B sequences, N tokens, D width, R read-outs, K candidates.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from uniperceiver.records import Batch, Encoded, Readout
from uniperceiver.tasks.candidates import Candidates, Model, represent_candidates
from uniperceiver.tasks.likelihood import logits, unit
from uniperceiver.tasks.loss import contrastive, cross_entropy, soft_cross_entropy
from uniperceiver.tasks.task import Task


def read(encoded: Encoded, readout: Readout) -> Tensor:
    """Encoder outputs at the read-out positions, (R, D)."""
    if readout.summary:
        return encoded.x_BND[:, 0]
    position_R = readout.position_R + encoded.segments[readout.segment].start
    n, d = encoded.x_BND.shape[1:]
    return encoded.x_BND.reshape(-1, d).index_select(0, readout.row_R * n + position_R)


def represent_inputs(model: Model, batch: Batch, stream: torch.Generator | None = None) -> Tensor:
    """Unit representations of the inputs of a batch at its read-outs, (R, D)."""
    encoded = model.encode(batch.inputs, stream, summary=batch.readout.summary)
    return unit(model.represent(read(encoded, batch.readout)), float32=model.likelihood_float32)


def ask(
    model: Model, task: Task, batch: Batch, candidates: Candidates, stream: torch.Generator | None = None
) -> Tensor:
    """Logits of every candidate at every read-out, (R, K): their softmax is P(y | x)."""
    z_RD = represent_inputs(model, batch, stream)
    c_KD = represent_candidates(model, candidates, stream)
    return logits(z_RD, c_KD, model.scale(task.temperature), candidates.correction_K)


def loss_terms(
    task: Task, logits_RK: Tensor, readout: Readout, candidates: Candidates, smoothing: float = 0.0
) -> Mapping[str, Tensor]:
    """The named terms whose sum is the loss of a batch."""
    if task.candidates == "in_batch":
        assert readout.soft_RK is not None
        return contrastive(logits_RK, readout.soft_RK, smoothing)
    if readout.soft_RK is not None:
        return {"nll": soft_cross_entropy(logits_RK, readout.soft_RK, smoothing)}
    target_R = readout.target_R if candidates.target_R is None else candidates.target_R
    return {"nll": cross_entropy(logits_RK, target_R, smoothing)}
