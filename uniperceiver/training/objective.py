"""The loss of a batch: its candidates, the likelihood, and the terms that are added up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from uniperceiver.data.mix import Plan
from uniperceiver.moe.balance import balance_terms
from uniperceiver.records import Batch, Decision, Readout, detached, to_device
from uniperceiver.streams import numpy_stream, torch_stream
from uniperceiver.tasks.ask import answer, loss_terms
from uniperceiver.tasks.candidates import (
    Candidates,
    Model,
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


@dataclass(frozen=True, kw_only=True)
class TrainingObjective:
    """Everything that turns (model, batch, plan) into loss terms; draws only from streams named by the plan."""

    tasks: Sequence[TaskObjective]
    codec: TextCodec
    seed: int
    device: torch.device
    autocast: torch.dtype | None  # None: float32
    sample: int  # sampled vocabulary entries; 0: the whole vocabulary
    proposal_V: Tensor  # float, weight of each vocabulary entry when it is sampled
    accuracy_in_loss: bool = False
    balance: Mapping[str, float] = field(default_factory=dict)  # coefficients of losses of moe/balance.py
    least_experts: float = 4.0

    def __call__(self, model: Model, batch: Batch, plan: Plan) -> BatchLoss:
        """The terms of the batch's loss and its weight."""
        one = self.tasks[plan.index]
        candidates = self.candidates(batch, plan)
        stream = torch_stream(self.seed, "model", plan.step, plan.place)
        terms, decisions = self._terms(model, one, batch, candidates, stream)
        return BatchLoss(
            terms=terms,
            factor=one.loss_weight,
            balance=balance_terms(decisions, self.balance, self.least_experts),
            decisions=tuple(map(detached, decisions)),
        )

    def still(self, model: Model, batch: Batch, plan: Plan) -> Tensor:
        """The task's loss on its own, with its graph, and without anything random in the model."""
        terms, _ = self._terms(model, self.tasks[plan.index], batch, self.candidates(batch, plan), None)
        return sum(terms.values(), start=torch.zeros(()))

    @torch.no_grad()
    def full(self, model: Model, batch: Batch, plan: Plan) -> Tensor:
        """The loss over the whole vocabulary, without anything random: what is reported when candidates are sampled."""
        one = self.tasks[plan.index]
        candidates = vocabulary_candidates(one.task, self.codec, one.index)
        terms, _ = self._terms(model, one, batch, candidates, None)
        return sum(terms.values(), start=torch.zeros(()))

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

    def _terms(
        self,
        model: Model,
        one: TaskObjective,
        batch: Batch,
        candidates: Candidates,
        stream: torch.Generator | None,
    ) -> tuple[Mapping[str, Tensor], tuple[Decision, ...]]:
        batch, candidates = to_device(batch, self.device), to_device(candidates, self.device)
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            answered = answer(model, one.task, batch, candidates, stream)
        logits_RK = answered.logits_RK
        terms = dict(loss_terms(one.task, logits_RK, batch.readout, candidates, one.label_smoothing))
        if self.accuracy_in_loss:
            terms |= accuracies(one.task, logits_RK, batch.readout, candidates)
        return terms, answered.decisions


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
