"""The loss of a batch: its candidates, the likelihood, and the terms that are added up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uniperceiver.data.mix import Plan
from uniperceiver.model.model import Generalist
from uniperceiver.moe.balance import balance_terms
from uniperceiver.records import Batch, Readout, detached, to_device
from uniperceiver.streams import numpy_stream, torch_stream
from uniperceiver.tasks.ask import answer, loss_terms
from uniperceiver.tasks.candidates import (
    Candidates,
    TextCodec,
    label_candidates,
    sampled_candidates,
    vocabulary_candidates,
)
from uniperceiver.tasks.task import Task
from uniperceiver.training.step import BatchLoss


@dataclass(frozen=True, kw_only=True)
class TaskObjective:
    """A task of the run and what its loss is multiplied and smoothed by."""

    task: Task
    index: int | None  # among the tasks that the model knows; None: it does not know this one
    loss_weight: float = 1.0
    label_smoothing: float = 0.0


class TrainingObjective(nn.Module):
    """Turns (batch, plan) into loss terms by calling the model, which it holds as a submodule.

    It holds all weights that a step trains, so that a wrapper such as DistributedDataParallel can be put around it; it
    has none of its own. Evaluation and checkpoints see the bare model. What is random is drawn only from streams that
    are named by the run's seed and the plan.

    Args:
        model: what is trained.
        tasks: by `Plan.index`.
        codec: texts of candidates to ids.
        seed: of the run.
        device: where the model is; batches are copied there.
        autocast: type of the model's forward pass; None: float32.
        sample: vocabulary entries that are sampled as candidates; 0: the whole vocabulary.
        proposal_V: float, weight of each vocabulary entry when it is sampled.
        accuracy_in_loss: add the accuracies to the terms, as the original release does; they have no gradient.
        balance: coefficients of the losses in moe/balance.py.
        least_experts: read by the loss "global_entropy".
    """

    def __init__(
        self,
        model: Generalist,
        *,
        tasks: Sequence[TaskObjective],
        codec: TextCodec,
        seed: int,
        device: torch.device,
        autocast: torch.dtype | None,
        sample: int,
        proposal_V: Tensor,
        accuracy_in_loss: bool = False,
        balance: Mapping[str, float] | None = None,
        least_experts: float = 4.0,
    ) -> None:
        super().__init__()
        self.model, self.tasks, self.codec, self.seed, self.device = model, tuple(tasks), codec, seed, device
        self.autocast, self.sample, self.proposal_V = autocast, sample, proposal_V
        self.accuracy_in_loss, self.balance, self.least_experts = accuracy_in_loss, dict(balance or {}), least_experts

    def forward(self, batch: Batch, plan: Plan, *, random: bool = True, whole_vocabulary: bool = False) -> BatchLoss:
        """The terms of the batch's loss and their weight.

        Args:
            random: draw what is random in the model (DropPath, noise of gates), and compute the losses that balance its
                experts; False: the task's terms alone, as they are measured.
            whole_vocabulary: compare with every word, also where candidates are sampled in training.
        """
        objective = self.tasks[plan.index]
        task = objective.task
        if whole_vocabulary:
            candidates = vocabulary_candidates(task, self.codec, objective.index)
        else:
            candidates = self.candidates(batch, plan)
        stream = torch_stream(self.seed, "model", plan.step, plan.place) if random else None
        batch, candidates = to_device(batch, self.device), to_device(candidates, self.device)
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            answered = answer(self.model, task, batch, candidates, stream)
        terms = dict(loss_terms(task, answered.logits_RK, batch.readout, candidates, objective.label_smoothing))
        if self.accuracy_in_loss:
            terms |= accuracies(task, answered.logits_RK, batch.readout, candidates)
        return BatchLoss(
            terms=terms,
            factor=objective.loss_weight,
            balance=balance_terms(answered.decisions, self.balance, self.least_experts) if random else {},
            decisions=tuple(map(detached, answered.decisions)),
        )

    def samples(self, plan: Plan) -> bool:
        """Whether the plan's task is trained with a sample of the words as candidates."""
        return bool(self.sample) and self.tasks[plan.index].task.candidates == "vocabulary"

    def candidates(self, batch: Batch, plan: Plan) -> Candidates:
        """The candidates of a training batch."""
        one = self.tasks[plan.index]
        task = one.task
        if task.candidates == "in_batch":
            assert batch.candidates is not None
            return Candidates(sequences=batch.candidates)
        if task.candidates == "labels":
            rng = numpy_stream(self.seed, "label texts", plan.step, plan.place)
            return label_candidates(task, self.codec, rng, one.index)
        if not self.sample:
            return vocabulary_candidates(task, self.codec, one.index)
        return sampled_candidates(
            batch.readout.target_R,
            self.proposal_V,
            self.sample,
            torch_stream(self.seed, "candidates", plan.step, plan.place),
            task.facts("candidate", one.index),
            self.codec.end,
        )


def accuracies(task: Task, logits_RK: Tensor, readout: Readout, candidates: Candidates) -> dict[str, Tensor]:
    """The accuracies of a batch, without gradient, as the original release adds them to its losses.

    Of retrieval, those of both directions; nothing where labels are mixed, as none of them is right then.
    """
    if task.candidates == "in_batch":
        assert readout.soft_RK is not None
        return {
            "accuracy_to_candidate": _share_right(logits_RK, readout.soft_RK),
            "accuracy_to_input": _share_right(logits_RK.T, readout.soft_RK.T),
        }
    if readout.soft_RK is not None:
        return {}
    target_R = readout.target_R if candidates.target_R is None else candidates.target_R
    return {"accuracy": (logits_RK.argmax(dim=-1) == target_R).float().mean()}


def _share_right(logits_RK: Tensor, right_RK: Tensor) -> Tensor:
    return (right_RK.gather(1, logits_RK.argmax(dim=1, keepdim=True)) > 0).float().mean()
