"""BATCHES -> LOSSES, again and again: what interference is measured on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from uniperceiver.data.loader import load
from uniperceiver.data.mix import BatchMaker, Mixture, Plan
from uniperceiver.interference.products import TaskLoss
from uniperceiver.model.model import Generalist
from uniperceiver.records import to_device
from uniperceiver.training.objective import TrainingObjective


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
                loss = self.objective.still(self.model, batch, plan)
                yield TaskLoss(task=plan.index, batch=f"batch {plan.step}", loss=loss)
                del loss, batch  # what was measured is not held while the next one is made
            self._done += 1
            if self.on_batch is not None:
                self.on_batch(self._done, self._expected)

    def _plans(self) -> Iterator[Plan]:
        for number in range(self.batches):
            for index, one in enumerate(self.mixture.sets):
                size = one.late.batch
                yield Plan(step=number, place=index, index=index, start=number * size, count=size, late=True)
