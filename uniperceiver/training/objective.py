"""The loss of a batch: its candidates, the likelihood, and the terms that are added up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from uniperceiver.data.mix import Plan
from uniperceiver.data.tasks import TaskData
from uniperceiver.model.model import Generalist
from uniperceiver.moe.balance import balance_terms
from uniperceiver.records import Batch, Readout, detached, to_device
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.answers.kind import CandidateDraw
from uniperceiver.tasks.ask import answer, answer_among, loss_terms
from uniperceiver.tasks.candidates import Candidates, TextCodec, vocabulary_sequences
from uniperceiver.training.step import BatchLoss
from uniperceiver.training.turns.tokens import of_batch

# Of the losses that balance experts, where candidates are encoded apart: as many gates decide for these, and a loss is
# the mean over all decisions.
PART_OF_INPUTS = 0.5


@dataclass(frozen=True, kw_only=True)
class Among:
    """What a batch is compared with that all batches of its task in the step share (training/step_candidates.py)."""

    candidates: Candidates | None = None  # of a set
    c_KD: Tensor | None = None  # their representations
    terms: Callable[[Tensor, float], Mapping[str, Tensor]] | None = None  # or the loss by scale and smoothing


class TrainingObjective(nn.Module):
    """Turns (batch, plan) into loss terms by calling the model, which it holds as a submodule.

    It holds all weights that a step trains, so that a wrapper such as DistributedDataParallel can be put around it; it
    has none of its own. Evaluation and checkpoints see the bare model. What is random is drawn only from streams that
    are named by the run's seed and the plan.

    Args:
        model: what is trained.
        tasks: by `Plan.index`; their recipe says what their losses are multiplied and smoothed by.
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
        tasks: Sequence[TaskData],
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

    def forward(
        self,
        batch: Batch | None,
        plan: Plan | int | None,
        *,
        random: bool = True,
        whole_vocabulary: bool = False,
        among: Among | None = None,
    ) -> BatchLoss:
        """The terms of the batch's loss and their weight.

        Args:
            batch: None, with the plan, where a process has none of the step: 0, by weights that every batch uses.
            plan: of the batch. Without one the number of a task: then the encoder makes as many passes as for a batch.
            random: draw what is random in the model (DropPath, noise of gates), and compute the losses that balance its
                experts; False: the task's terms alone, as they are measured.
            whole_vocabulary: compare with every word, also where candidates are sampled in training.
            among: what the batch shares with others of the step, instead of candidates of its own.
        """
        if batch is None or plan is None or isinstance(plan, int):
            outputs = self._passes_of_nothing(self.tasks[plan]) if isinstance(plan, int) else []
            return BatchLoss(terms={"nothing": 0.0 * sum((x.sum() for x in outputs), start=self.used_by_all.sum())})
        data = self.tasks[plan.index]
        task, config = data.task, data.config
        if among is not None and among.terms is not None:
            with self.autocast_context():
                terms = among.terms(self.model.scale(task.temperature), config.label_smoothing)
            tokens = of_batch(batch.inputs, batch.candidates, self.model.tokenizer)
            return BatchLoss(terms=terms, factor=config.loss_weight, tokens=tokens)
        stream = torch_stream(self.seed, "model", plan.step, plan.place) if random else None
        made, batch = batch, to_device(batch, self.device)
        if random and batch.readout.objects is not None:
            batch = replace(batch, inputs=replace(batch.inputs, objects=batch.readout.objects))
        if among is None or among.candidates is None or among.c_KD is None:
            own = self.candidates(batch, plan, whole_vocabulary=whole_vocabulary)
            tokens = of_batch(made.inputs, made.candidates or own.sequences, self.model.tokenizer) if random else None
            candidates = to_device(own, self.device)
            with self.autocast_context():
                answered = answer(self.model, task, batch, candidates, stream)
            part = 1.0
        else:
            candidates, part = among.candidates, PART_OF_INPUTS
            tokens = of_batch(made.inputs, None, self.model.tokenizer)
            with self.autocast_context():
                answered = answer_among(self.model, task, batch, among.c_KD, stream)
        logits_RK = answered.logits_RK
        terms = dict(loss_terms(task, logits_RK, answered.readout, candidates, config.label_smoothing))
        terms |= answered.terms
        if self.accuracy_in_loss:
            terms |= task.answer.accuracies(logits_RK, answered.readout, candidates)
        balance = balance_terms(answered.decisions, self.balance, self.least_experts) if random else {}
        return BatchLoss(
            terms=terms,
            factor=config.loss_weight,
            balance={name: part * term for name, term in balance.items()},
            decisions=tuple(map(detached, answered.decisions)),
            tokens=tokens,
        )

    def _passes_of_nothing(self, data: TaskData) -> list[Tensor]:
        """What the encoder makes of a word, as often as it is asked for a batch: for its inputs, and its candidates."""
        facts = data.task.facts("candidate", data.index)
        word = to_device(vocabulary_sequences(torch.zeros(1, dtype=torch.int64), facts, self.codec.end), self.device)
        with self.autocast_context():
            return [self.model.encode(word, summary=True).x_BND for _ in range(2)]

    @property
    def used_by_all(self) -> nn.Parameter:
        """Weights that every batch uses, whatever its task."""
        return self.model.tokenizer.norm.weight

    def autocast_context(self) -> torch.autocast:
        """The precision of the model's forward pass, as a context."""
        return torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None)

    def set_of(self, index: int, step: int) -> Candidates:
        """The candidates that all batches of a task in a step share: of several texts of a class one is drawn."""
        task, nothing = self.tasks[index].task, torch.empty(0, dtype=torch.int64)
        candidates = task.answer.training_candidates(
            task,
            self.codec,
            self.tasks[index].index,
            Readout(segment=0, row_R=nothing, position_R=nothing, target_R=nothing),
            CandidateDraw(seed=self.seed, step=step, place=-1 - index),
        )
        assert candidates is not None
        return candidates

    @property
    def computes_in(self) -> str:
        """The type of the model's forward pass, such as bfloat16."""
        return str(self.autocast or torch.float32).removeprefix("torch.")

    def samples(self, plan: Plan) -> bool:
        """Whether the plan's task is trained with a sample of the words as candidates."""
        return bool(self.sample) and self.tasks[plan.index].task.answer.from_vocabulary

    def candidates(self, batch: Batch, plan: Plan, *, whole_vocabulary: bool = False) -> Candidates:
        """The candidates of a training batch."""
        task, index = self.tasks[plan.index].task, self.tasks[plan.index].index
        draw = CandidateDraw(
            seed=self.seed,
            step=plan.step,
            place=plan.place,
            sample=0 if whole_vocabulary else self.sample,
            proposal_V=self.proposal_V,
        )
        candidates = task.answer.training_candidates(task, self.codec, index, batch.readout, draw)
        if candidates is None:
            assert batch.candidates is not None
            return Candidates(sequences=batch.candidates)
        return candidates
