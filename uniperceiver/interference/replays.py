"""BATCHES -> LOSSES, again and again: what interference is measured on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from uniperceiver.data.loader import load
from uniperceiver.data.mix import BatchMaker, Mixture, Plan
from uniperceiver.errors import UserError
from uniperceiver.interference.groups import Group, groups_of
from uniperceiver.interference.products import TaskLoss
from uniperceiver.model.model import Generalist
from uniperceiver.model.upcycle import dense_name
from uniperceiver.records import to_device
from uniperceiver.training.objective import TrainingObjective

MOST = 100  # batches of each task, where nobody says how many


def trained_groups(model: Generalist, pattern: str) -> tuple[Group, ...]:
    """The groups of trained parameters that a pattern chooses; all experts of a matrix are one.

    Raises:
        UserError: no parameter has such a name, or none of those that have is trained.
    """
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    groups = groups_of(dict(model.named_parameters()), pattern, dense_name)
    found = [replace(each, parameters=tuple(filter(trained.__contains__, each.parameters))) for each in groups]
    if not all(each.parameters for each in found):
        raise UserError(f"parameters: {pattern!r} is not trained here; choose parameters that are")
    return tuple(found)


def most_batches(mixture: Mixture, wanted: int | None) -> int:
    """How many batches of each task are measured: as many as wanted, or else 100 or what the smallest set has.

    Raises:
        UserError: batches would share samples, which counts as help of a task for itself, or there is only one.
    """
    smallest = min(mixture.sets, key=lambda candidate: len(candidate.source) // candidate.stages[-1].batch)
    size = smallest.stages[-1].batch
    there = len(smallest.source) // size
    if there < max(2, wanted or 0):
        raise UserError(
            f"tasks.{smallest.task.name}: its {len(smallest.source)} samples are {there} batches of "
            f"{size}; ask for fewer batches, or for smaller ones"
        )
    return min(there, MOST) if wanted is None else wanted


@dataclass
class Replays:
    """The same batches of every task, again and again, each with its loss and nothing random in the model."""

    model: Generalist
    objective: TrainingObjective
    mixture: Mixture
    batches: int  # of each task
    workers: int
    on_batch: Callable[[int, int], None] | None = None
    _done: int = 0
    _expected: int = 0

    def expect(self, losses: int) -> None:
        """How many losses will be computed."""
        self._done, self._expected = 0, losses

    def __call__(self) -> Iterator[TaskLoss]:
        first = next(self.model.parameters())
        for plan, batch, _ in load(BatchMaker(self.mixture), self._plans(), self.workers):
            if batch is not None:
                batch = to_device(batch, first.device, first.dtype)
                loss = self.objective(batch, plan, random=False).loss
                yield TaskLoss(task=plan.index, batch=f"batch {plan.step}", loss=loss)
                del loss, batch  # what was measured is not held while the next one is made
            self._done += 1
            if self.on_batch is not None:
                self.on_batch(self._done, self._expected)

    def _plans(self) -> Iterator[Plan]:
        for number in range(self.batches):
            for index, training_set in enumerate(self.mixture.sets):
                stage = len(training_set.stages) - 1  # the sizes that training ends with
                size = training_set.stages[stage].batch
                yield Plan(step=number, place=index, index=index, start=number * size, count=size, stage=stage)
