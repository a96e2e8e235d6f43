"""The loss of a batch: its candidates, the likelihood, and the terms that are added up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from uniperceiver.data.mix import Plan
from uniperceiver.moe.balance import balance_terms
from uniperceiver.records import Batch, Decision, detached, to_device
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.answers.kind import CandidateDraw
from uniperceiver.tasks.ask import answer
from uniperceiver.tasks.candidates import Candidates, Model, TextCodec
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
        candidates = one.task.answer.all_candidates(one.task, self.codec, one.index)
        assert candidates is not None
        terms, _ = self._terms(model, one, batch, candidates, None)
        return sum(terms.values(), start=torch.zeros(()))

    def candidates(self, batch: Batch, plan: Plan) -> Candidates:
        """The candidates of a training batch."""
        task, index = self.tasks[plan.index].task, self.tasks[plan.index].index
        draw = CandidateDraw(
            seed=self.seed, step=plan.step, place=plan.place, sample=self.sample, proposal_V=self.proposal_V
        )
        candidates = task.answer.training_candidates(task, self.codec, index, batch.readout, draw)
        if candidates is None:
            assert batch.candidates is not None
            return Candidates(sequences=batch.candidates)
        return candidates

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
        kind = one.task.answer
        terms = dict(kind.loss_terms(logits_RK, batch.readout, candidates, one.label_smoothing))
        if self.accuracy_in_loss:
            terms |= kind.accuracies(logits_RK, batch.readout, candidates)
        return terms, answered.decisions
