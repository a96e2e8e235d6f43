"""The one question in code: encode the input, read it out, compare it with the candidates.

Shape suffixes: B sequences, N tokens, D width, R read-outs, K candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from uniperceiver.records import Batch, Decision, Encoded, Readout
from uniperceiver.records.regions import Regions
from uniperceiver.tasks.answers.kind import Settled
from uniperceiver.tasks.candidates import Candidates, Model, representations
from uniperceiver.tasks.likelihood import logits, unit
from uniperceiver.tasks.task import Task


def read(encoded: Encoded, readout: Readout) -> Tensor:
    """Encoder outputs at the read-out positions, (R, D); where things are asked for, at every proposal, row by row."""
    if readout.summary:
        return encoded.x_BND[:, 0]
    if readout.objects is not None:
        assert encoded.regions is not None, "read at proposals, which this model does not make"
        start, (rows, proposals) = encoded.regions.start, encoded.regions.chosen_BN.shape
        return encoded.x_BND[:, start : start + proposals].reshape(rows * proposals, -1)
    position_R = readout.position_R + encoded.segments[readout.segment].start
    n, d = encoded.x_BND.shape[1:]
    return encoded.x_BND.reshape(-1, d).index_select(0, readout.row_R * n + position_R)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Logits of every candidate at every read-out, and how the experts were chosen on the way."""

    logits_RK: Tensor
    decisions: tuple[Decision, ...]  # of the inputs, then of the candidates
    readout: Readout  # with what is right at each
    terms: Mapping[str, Tensor] = field(default_factory=dict)  # of the loss, beside that of the likelihood
    regions: Regions | None = None  # where the answers are read at proposals


def represent_inputs(model: Model, batch: Batch, stream: torch.Generator | None = None) -> Tensor:
    """Unit representations of the inputs of a batch at its read-outs, (R, D)."""
    return unit(input_features(model, batch, stream), float32=model.likelihood_float32)


def input_features(model: Model, batch: Batch, stream: torch.Generator | None = None) -> Tensor:
    """As `represent_inputs`, before they are brought to length one."""
    return encode_inputs(model, batch, stream)[0]


def encode_inputs(
    model: Model, batch: Batch, stream: torch.Generator | None = None, *, settle: bool = True
) -> tuple[Tensor, Encoded]:
    """As `input_features`, with what the encoder made of the inputs.

    Args:
        settle: as in `answer_among`; masks of inner layers are made for things with masks alone.
    """
    inputs, objects = batch.inputs, batch.readout.objects
    if settle and objects is not None and objects.mask_BGHW is not None:
        inputs = replace(inputs, every_mask=True)
    encoded = model.encode(inputs, stream, summary=batch.readout.summary)
    return model.represent(read(encoded, batch.readout)), encoded


def compare(model: Model, task: Task, feature_RD: Tensor, c_KD: Tensor, correction_K: Tensor | None = None) -> Tensor:
    """Logits of every candidate, (R, K), from the features of the inputs and the representations of the candidates."""
    z_RD = unit(feature_RD, float32=model.likelihood_float32)
    logits_RK = logits(z_RD, c_KD, model.scale(task.temperature), correction_K)
    return model.finish(logits_RK, feature_RD) if task.answer.has_labels else logits_RK


def ask(
    model: Model, task: Task, batch: Batch, candidates: Candidates, stream: torch.Generator | None = None
) -> Tensor:
    """Logits of every candidate at every read-out, (R, K): their softmax is P(y | x)."""
    return answer(model, task, batch, candidates, stream).logits_RK


def answer(
    model: Model, task: Task, batch: Batch, candidates: Candidates, stream: torch.Generator | None = None
) -> Answered:
    """As `ask`, with the decisions of the gates."""
    feature_RD, inputs = encode_inputs(model, batch, stream)
    encoded = model.encode(candidates.sequences, stream, summary=True)
    c_KD = representations(model, candidates, encoded)
    logits_RK = compare(model, task, feature_RD, c_KD, candidates.correction_K)
    return _answered(task, batch, logits_RK, inputs, encoded.decisions)


def answer_among(
    model: Model,
    task: Task,
    batch: Batch,
    c_KD: Tensor,
    stream: torch.Generator | None = None,
    *,
    settle: bool = True,
) -> Answered:
    """As `answer`, among candidates that were represented before; the decisions are those of the inputs.

    Args:
        settle: say what is right at each read-out, too, which takes work that whoever only asks has no use for.
    """
    feature_RD, inputs = encode_inputs(model, batch, stream, settle=settle)
    return _answered(task, batch, compare(model, task, feature_RD, c_KD), inputs, settle=settle)


def _answered(
    task: Task,
    batch: Batch,
    logits_RK: Tensor,
    inputs: Encoded,
    decisions: tuple[Decision, ...] = (),
    *,
    settle: bool = True,
) -> Answered:
    """Logits with what is right at each read-out, which the encoded inputs may decide.

    Args:
        decisions: of the candidates.
    """
    settled = task.answer.settled(inputs, batch.readout) if settle else Settled(readout=batch.readout)
    return Answered(
        logits_RK=task.answer.shifted(task, logits_RK, inputs),
        decisions=inputs.decisions + decisions,
        readout=settled.readout,
        terms=settled.terms,
        regions=inputs.regions,
    )


def loss_terms(
    task: Task, logits_RK: Tensor, readout: Readout, candidates: Candidates, smoothing: float = 0.0
) -> Mapping[str, Tensor]:
    """The named terms whose sum is the loss of a batch."""
    return task.answer.loss_terms(logits_RK, readout, candidates, smoothing)
