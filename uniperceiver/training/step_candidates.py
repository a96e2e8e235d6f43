"""CANDIDATES OF A STEP: encoded once for all its batches, by all processes, with the chain rule written out.

1. Every process encodes some of them and keeps the graph. What is encoded, without its graph, becomes a leaf, which all
   processes have whole.
2. The loss of a batch is computed from leaves; its backward pass leaves its part of their gradients in them.
3. The gradients of the leaves are added up over the processes, and each goes on backwards through what it has encoded.

No collective is made inside autograd, so a process may have any number of batches. There are two kinds: a set of names
or words, in chunks that are dealt (`candidates.share: step`), and the texts and inputs of all batches of a task in the
step (`tasks.NAME.negatives: step`), which are encoded where the batches are.

Shape suffixes: X rows of all processes, x of this one or of a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from uniperceiver.data.mix import Plan
from uniperceiver.moe.balance import balance_terms
from uniperceiver.parallel.deal import deal
from uniperceiver.parallel.world import World
from uniperceiver.precision import at_least_float32
from uniperceiver.records import Batch, Decision, detached, to_device
from uniperceiver.streams import seed_of, torch_stream
from uniperceiver.tasks.ask import encode_inputs
from uniperceiver.tasks.candidates import Candidates, representations, rows_of
from uniperceiver.tasks.likelihood import logits, unit
from uniperceiver.tasks.loss import soft_cross_entropy
from uniperceiver.training.objective import PART_OF_INPUTS, Among, TrainingObjective

_CHUNK = 512  # sequences that are encoded together; with another number, other branches of them are dropped


@dataclass(frozen=True, kw_only=True)
class _Encoded:
    """What this process has encoded: rows of the leaves, with their graph."""

    rows: slice
    outputs: tuple[Tensor, ...]  # (x, D), one for each leaf
    balance: Tensor | None  # losses that balance the experts on the way
    decisions: tuple[Decision, ...]  # of the gates, without their graph


@dataclass(kw_only=True)
class _OfTask:
    """The leaves of a task, and what of them was encoded here."""

    leaves: tuple[Tensor, ...]  # (X, D)
    own: list[_Encoded]
    part: float  # of the losses that balance experts, for each that any process has encoded
    candidates: Candidates | None = None  # of a set
    rows: Mapping[int, slice] = field(default_factory=dict)  # of each place
    same_XX: Tensor | None = None  # whether a text is right for an input


class StepCandidates:
    """What the batches of a step are compared with, for the tasks that share it.

    Args:
        sets: whether sets of names, and the whole vocabulary, are encoded once for a step.
    """

    def __init__(self, objective: TrainingObjective, world: World, *, sets: bool) -> None:
        self._objective, self._world, self._sets = objective, world, sets
        self._tasks: dict[int, _OfTask] = {}

    def begin(self, step: int, work: Sequence[tuple[Plan, Batch]], sizes: Mapping[int, Mapping[int, int]]) -> None:
        """Encode what the next step needs; all processes call this.

        Args:
            work: the batches of this process.
            sizes: by task, the samples of each of its places, of all processes.
        """
        self._tasks = {}
        for index in sizes:
            task = self._objective.tasks[index]
            if task.task.answer.among_batch:
                if task.config.negatives == "step":
                    self._tasks[index] = self._from_batches(index, work, sizes[index])
            elif self._sets and not (self._objective.sample and task.task.answer.from_vocabulary):
                self._tasks[index] = self._from_set(index, step)

    def among(self, plan: Plan) -> Among | None:
        """What the batch of a plan is compared with; None: with candidates of its own."""
        of_task = self._tasks.get(plan.index)
        if of_task is None:
            return None
        if of_task.candidates is not None:
            return Among(candidates=of_task.candidates, c_KD=of_task.leaves[0])
        return Among(terms=partial(_both_ways, of_task, of_task.rows[plan.place]))

    def decisions(self, index: int) -> list[Decision]:
        """What the gates decided for what this process has encoded of a task."""
        of_task = self._tasks.get(index)
        return [] if of_task is None else [decision for part in of_task.own for decision in part.decisions]

    def backward(self, index: int, scale: Callable[[Tensor], Tensor], balance: float) -> None:
        """Go on backwards from the leaves of a task through what this process has encoded; all processes call this.

        Args:
            scale: what a loss is put through before its backward pass.
            balance: weight of the losses that balance experts, together.
        """
        of_task = self._tasks.pop(index, None)
        if of_task is None:
            return
        gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in of_task.leaves]
        for gradient in gradients:
            self._world.sum_(gradient)
        for part in of_task.own:
            outputs = list(part.outputs)
            filled: list[Tensor | None] = [gradient[part.rows] for gradient in gradients]
            if part.balance is not None:
                outputs.append(scale(part.balance * (balance * of_task.part)))
                filled.append(None)
            torch.autograd.backward(outputs, filled)

    def _from_set(self, index: int, step: int) -> _OfTask:
        objective, data = self._objective, self._objective.tasks[index]
        candidates = to_device(objective.set_of(index, step), objective.device)
        size = candidates.sequences.size
        chunks = [slice(start, min(start + _CHUNK, size)) for start in range(0, size, _CHUNK)]
        ranks = deal([chunk.stop - chunk.start for chunk in chunks], self._world.size)
        own = []
        for number, (chunk, rank) in enumerate(zip(chunks, ranks, strict=True)):
            if rank == self._world.rank:
                stream = torch_stream(objective.seed, "candidates", step, data.task.name, number)
                part = Candidates(sequences=rows_of(candidates.sequences, chunk))
                with objective.autocast_context():
                    encoded = objective.model.encode(part.sequences, stream, summary=True)
                    c_xD = representations(objective.model, part, encoded)
                own.append(self._encoded(chunk, (c_xD,), encoded.decisions))
        leaves = self._leaves(own, size, outputs=1)
        share = (1 - PART_OF_INPUTS) / len(chunks)
        return _OfTask(leaves=leaves, own=own, part=share, candidates=candidates)

    def _from_batches(self, index: int, work: Sequence[tuple[Plan, Batch]], sizes: Mapping[int, int]) -> _OfTask:
        objective, rows, end = self._objective, dict[int, slice](), 0
        for place, size in sizes.items():
            rows[place], end = slice(end, end + size), end + size
        own = []
        names_X2 = torch.zeros(end, 2, dtype=torch.int64)
        for plan, batch in work:
            if plan.index != index:
                continue
            names_X2[rows[plan.place]] = _names(batch)
            stream = torch_stream(objective.seed, "model", plan.step, plan.place)
            batch = to_device(batch, objective.device)
            assert batch.candidates is not None
            with objective.autocast_context():
                feature_xD, inputs = encode_inputs(objective.model, batch, stream)
                z_xD = unit(feature_xD, float32=objective.model.likelihood_float32)
                encoded = objective.model.encode(batch.candidates, stream, summary=True)
                c_xD = representations(objective.model, Candidates(sequences=batch.candidates), encoded)
            own.append(self._encoded(rows[plan.place], (z_xD, c_xD), inputs.decisions + encoded.decisions))
        names_X2 = self._world.sum_(names_X2.to(self._world.device))
        text_X, sample_X = names_X2.to(objective.device).unbind(1)
        same_XX = (text_X[:, None] == text_X) | (sample_X[:, None] == sample_X)
        leaves = self._leaves(own, end, outputs=2)
        return _OfTask(leaves=leaves, own=own, part=1 / len(rows), rows=rows, same_XX=same_XX.to(leaves[0].dtype))

    def _leaves(self, own: Sequence[_Encoded], size: int, outputs: int) -> tuple[Tensor, ...]:
        """What all processes have encoded, without its graph: rows of others are added to zeros, which is exact."""
        anchor, precision = self._objective.used_by_all, self._objective.autocast
        dtype = at_least_float32(anchor).dtype
        if precision is not None and not self._objective.model.likelihood_float32:
            dtype = precision
        leaves = []
        for number in range(outputs):
            leaf_XD = torch.zeros(size, len(anchor), dtype=dtype, device=anchor.device)
            for part in own:
                leaf_XD[part.rows] = part.outputs[number].detach()
            leaves.append(self._world.sum_(leaf_XD).requires_grad_())
        return tuple(leaves)

    def _encoded(self, rows: slice, outputs: tuple[Tensor, ...], decisions: Sequence[Decision]) -> _Encoded:
        terms = balance_terms(decisions, self._objective.balance, self._objective.least_experts)
        balance = torch.stack(list(terms.values())).sum() if terms else None
        return _Encoded(rows=rows, outputs=outputs, balance=balance, decisions=tuple(map(detached, decisions)))


def _names(batch: Batch) -> Tensor:
    """A number for the text of each sample of a batch, and one for the sample itself, (B, 2) int64.

    Candidates that are no texts belong to their samples alone.
    """
    assert batch.candidates is not None
    text = batch.candidates.text
    if text is None:
        return torch.tensor([[seed_of(0, name)] * 2 for name in batch.ids], dtype=torch.int64)
    valid_BN = torch.ones_like(text.values, dtype=torch.bool) if text.valid_BN is None else text.valid_BN
    texts = [row[valid].tolist() for row, valid in zip(text.values, valid_BN, strict=True)]
    return torch.tensor(
        [[seed_of(0, *ids), seed_of(0, name)] for ids, name in zip(texts, batch.kin, strict=True)], dtype=torch.int64
    )


def _both_ways(of_task: _OfTask, rows: slice, scale: Tensor, smoothing: float) -> dict[str, Tensor]:
    """The loss of a batch in both directions, as `tasks.loss.contrastive`, among all texts and inputs of the step."""
    z_XD, c_XD = of_task.leaves
    assert of_task.same_XX is not None
    to_candidate_xX, to_input_xX = of_task.same_XX[rows], of_task.same_XX.T[rows]
    return {
        "to_candidate": soft_cross_entropy(
            logits(z_XD[rows], c_XD, scale), to_candidate_xX / to_candidate_xX.sum(1, keepdim=True), smoothing
        ),
        "to_input": soft_cross_entropy(
            logits(z_XD, c_XD[rows], scale).T, to_input_xX / to_input_xX.sum(1, keepdim=True), smoothing
        ),
    }
