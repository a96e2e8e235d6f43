"""WHO MAKES A STEP: one process alone, or several, whose update is the one that it would have made.

A step asks the same questions of both: which tasks have batches, what a batch weighs, what the mean losses are. What
several processes answer is computed from what all of them have (docs/parallel.md).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from uniperceiver.config import Recipe
from uniperceiver.data.mix import Plan
from uniperceiver.moe.statistics import GatePlace
from uniperceiver.optimisation.balance.method import Method
from uniperceiver.parallel.replicas import Replicas, add_up
from uniperceiver.parallel.world import World
from uniperceiver.records import Batch, Decision

if TYPE_CHECKING:  # they are made of batches' losses, which steps define
    from uniperceiver.training.objective import TrainingObjective
    from uniperceiver.training.processes.sharded import ShardedTraining
    from uniperceiver.training.step_candidates import StepCandidates

Work = Sequence[tuple[Plan, Batch]]
Losses = Mapping[str, Sequence[Tensor]]  # of each batch, by task
Gradients = dict[str, Tensor]  # by parameter


@dataclass(frozen=True, kw_only=True)
class PlaceOfStep:
    """A batch of a step, as every process knows it."""

    place: int
    index: int  # of the task
    task: str
    answers: int  # that are known
    rank: int  # the process that has it


class Team:
    """One process, which has all batches of a step and nobody to ask."""

    world: World = World()
    factor: float = 1.0
    """What losses are multiplied by because their gradients are divided by it afterwards."""

    def __init__(self, candidates: "StepCandidates | None" = None) -> None:
        self._candidates = candidates

    def places(self, work: Work) -> list[PlaceOfStep]:
        """All batches of the step, in order."""
        return [
            PlaceOfStep(place=plan.place, index=plan.index, task=batch.task, answers=batch.readout.answers, rank=0)
            for plan, batch in work
        ]

    def step(self, work: Work) -> int:
        """The number of the step."""
        return work[0][0].step

    def begin_candidates(self, work: Work) -> None:
        """Encode the candidates that batches of the step share."""
        if self._candidates is None:
            return
        sizes: dict[int, dict[int, int]] = {}
        for place in self.places(work):
            sizes.setdefault(place.index, {})[place.place] = place.answers
        self._candidates.begin(self.step(work), work, sizes)

    def end_candidates(
        self,
        work: Work,
        of_task: Callable[[str], AbstractContextManager[None]],
        scale: Callable[[Tensor], Tensor],
        weights: Mapping[str, float],
    ) -> dict[str, list[Decision]]:
        """Go on backwards through the candidates that batches of the step share. What gates decided for them, by task.

        Args:
            of_task: where the gradients of a task go.
            scale: what a loss is put through before its backward pass.
            weights: of the losses that balance experts, by task.
        """
        decisions: dict[str, list[Decision]] = {}
        if self._candidates is not None:
            for task, index in {place.task: place.index for place in self.places(work)}.items():
                decisions[task] = self._candidates.decisions(index)
                with of_task(task):
                    self._candidates.backward(index, scale, weights[task])
        return decisions

    def tasks(self, work: Work) -> list[str]:
        """The task of every batch of the step, in the order of their places."""
        return [batch.task for _, batch in work]

    def weights(self, work: Work, accumulate: int) -> list[float]:
        """What each batch of `work` weighs beside the others of its draw, 1 on average."""
        if accumulate == 1:
            return [1.0] * len(work)
        places = [(plan.place, batch.readout.answers) for plan, batch in work]
        return list(by_answers(places, accumulate).values())

    def loss(self, objective: Callable[..., Any], batch: Batch, plan: Plan, *, last: bool) -> Any:
        """The loss of a batch, `last` of those that this process has of the step."""
        among = None if self._candidates is None else self._candidates.among(plan)
        return objective(batch, plan) if among is None else objective(batch, plan, among=among)

    def marked(self, loss: Tensor) -> Tensor:
        """The loss, whose gradients tell the others if it is not finite."""
        return loss

    def finish(self, model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
        """Make the gradients in the parameters those of all batches of the step.

        Args:
            scale: what a loss is put through before its backward pass.
        """

    def finish_tasks(self, model: nn.Module, by_task: Mapping[str, Gradients]) -> None:
        """Make the gradients of each task those of all its batches of the step, in place."""

    def means(self, losses: Losses) -> dict[str, float]:
        """The mean loss of each task over its batches of the step."""
        return {task: float(torch.stack(list(values)).mean()) for task, values in losses.items()}

    def bad_task(self, losses: Losses, norm: float) -> str | None:
        """The first task of the step with a loss that is not finite.

        Args:
            norm: of the gradients.
        """
        return next((task for task, values in losses.items() if not all(map(torch.isfinite, values))), None)

    def clip(self, model: nn.Module, limit: float) -> Tensor:
        """The global gradient norm; gradients are scaled down to `limit` if that is positive and smaller."""
        trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
        if limit > 0:  # of a norm that is not finite the step is skipped, and nobody looks at the gradients
            nn.utils.clip_grads_with_norm_(trained, limit, norm)
        return norm

    def seen(self, work: Work) -> list[tuple[str, Sequence[str]]]:
        """The task and the names of the samples of every batch of the step, in the order of their places."""
        return [(batch.task, batch.ids) for _, batch in work]

    def loads(self, loads: Mapping[GatePlace, Tensor]) -> dict[GatePlace, Tensor]:
        """The assignments of every expert, (E,), of each gate over the batches of the step."""
        return dict(loads)


def by_answers(places: Sequence[tuple[int, int]], accumulate: int) -> dict[int, float]:
    """What each batch weighs beside the others of its draw, 1 on average: in proportion to its answers.

    A batch without an answer has the loss 0, whatever its weight; one whose samples are all broken is not there.

    Args:
        places: place and known answers of each batch of the step.
        accumulate: places of a draw.
    """
    totals, sizes = Counter[int](), Counter[int]()
    for place, count in places:
        totals[place // accumulate] += count
        sizes[place // accumulate] += 1
    return {
        place: sizes[place // accumulate] * count / totals[place // accumulate] if count else 1.0
        for place, count in places
    }


class TeamOfProcesses(Team):
    """Several processes, each with its own batches of a step.

    DistributedDataParallel reduces gradients in the last backward pass of a step; where a method wants them task by
    task, or losses before any backward pass, they are reduced by hand.

    Args:
        objective: what is trained; None for a batch gives a loss of 0 that touches what every batch touches. Without
            one nothing is wrapped.
        wraps: whether it can give that, so that a process without a batch can take part in a reduction of the wrapper.
    """

    def __init__(
        self,
        world: World,
        objective: nn.Module | None,
        method: Method,
        *,
        wraps: bool,
        candidates: "StepCandidates | None" = None,
    ) -> None:
        super().__init__(candidates)
        self.world = world
        by_hand = method.needs_gradients or method.needs_losses or not wraps or candidates is not None
        self._replicas = None if by_hand or objective is None else Replicas(objective)
        self.factor = 1.0 if by_hand else float(world.size)
        self._learns = method.needs_losses or type(method).after_step is not Method.after_step
        self._places: list[PlaceOfStep] = []
        self._step = 0

    def reduce_with(self, reduce: Callable[[Tensor], object]) -> None:
        """Reduce the wrapper's gradients by a function, in place; nothing where they are reduced by hand."""
        if self._replicas is not None:
            self._replicas.reduce_with(reduce)

    def begin(self, step: int, places: Sequence[PlaceOfStep]) -> None:
        """Take note of the batches of the step that is made next."""
        self._step, self._places = step, list(places)

    def places(self, work: Work) -> list[PlaceOfStep]:
        return self._places

    def step(self, work: Work) -> int:
        return self._step

    def tasks(self, work: Work) -> list[str]:
        return [place.task for place in self._places]

    def weights(self, work: Work, accumulate: int) -> list[float]:
        if accumulate == 1:
            return [1.0] * len(work)
        of_all = by_answers([(place.place, place.answers) for place in self._places], accumulate)
        return [of_all[plan.place] for plan, _ in work]

    def loss(self, objective: Callable[..., Any], batch: Batch, plan: Plan, *, last: bool) -> Any:
        if self._replicas is None:
            return super().loss(objective, batch, plan, last=last)
        return self._replicas(batch, plan, last=last)

    def marked(self, loss: Tensor) -> Tensor:
        return loss * torch.where(loss.detach().isfinite(), 1.0, math.nan)

    def finish(self, model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
        if self._replicas is None:
            parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
            own = {name: value.grad for name, value in parameters.items() if value.grad is not None}
            sums = add_up(parameters, own, self.world)
            for name, parameter in parameters.items():
                parameter.grad = sums.get(name)
        elif all(place.rank != self.world.rank for place in self._places):
            scale(self._replicas(None, None, last=True).loss).backward()  # the others wait for it

    def finish_tasks(self, model: nn.Module, by_task: Mapping[str, Gradients]) -> None:
        parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        for own in by_task.values():
            sums = add_up(parameters, own, self.world)
            own.clear()
            own.update(sums)

    def means(self, losses: Losses) -> dict[str, float]:
        counts = Counter(place.task for place in self._places)
        if not self._learns:
            return dict.fromkeys(counts, math.nan)  # nobody looks at them
        sums = [float(torch.stack(list(losses[task])).double().sum()) if task in losses else 0.0 for task in counts]
        total = self.world.sum_(torch.tensor(sums, dtype=torch.float64, device=self.world.device))
        return {task: value / counts[task] for task, value in zip(counts, total.tolist(), strict=True)}

    def bad_task(self, losses: Losses, norm: float) -> str | None:
        if math.isfinite(norm):  # else, by `marked`, it would not be
            return None
        own = [task for task, values in losses.items() if not all(map(torch.isfinite, values))]
        bad = {task for tasks in self.world.gather(own) for task in tasks}
        return next((place.task for place in self._places if place.task in bad), None)

    def seen(self, work: Work) -> list[tuple[str, Sequence[str]]]:
        own = [[plan.place, batch.task, list(batch.ids)] for plan, batch in work]
        return [(task, ids) for _, task, ids in sorted(line for lines in self.world.gather(own) for line in lines)]

    def loads(self, loads: Mapping[GatePlace, Tensor]) -> dict[GatePlace, Tensor]:
        own = [[*place, count_E] for place, count_E in loads.items()]
        sums: defaultdict[GatePlace, Tensor | int] = defaultdict(int)
        for lines in self.world.gather(own):
            for layer, part, gate, count_E in lines:
                sums[GatePlace(layer, part, gate)] += count_E
        device = next((count_E.device for count_E in loads.values()), self.world.device)
        return {place: sums[place].to(device) for place in sorted(sums)}  # type: ignore[union-attr]


def team_of(
    world: World,
    objective: "TrainingObjective",
    method: Method,
    recipe: Recipe,
    sharded: "ShardedTraining | None" = None,
) -> Team:
    """Who makes the steps of a run: this process, or all of them, whose weights become those of the first.

    Args:
        sharded: the parts of the weights, where this process has only some.
    """
    from uniperceiver.training.step_candidates import StepCandidates

    if sharded is not None:
        return sharded.team(method)
    sets = recipe.candidates.share == "step"
    shares = sets or any(config.negatives == "step" for config in recipe.tasks.values())
    candidates = StepCandidates(objective, world, sets=sets) if shares else None
    if world.size == 1:
        return Team(candidates)
    wraps = objective.used_by_all.requires_grad
    return TeamOfProcesses(world, objective, method, wraps=wraps, candidates=candidates)
