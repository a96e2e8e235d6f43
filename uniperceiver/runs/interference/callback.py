"""Interference of a run: the batches that it is measured on, and the callback that measures during training."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from uniperceiver.config import InterferenceConfig, Recipe
from uniperceiver.data.loader import load
from uniperceiver.data.mix import BatchMaker, Mixture, Plan
from uniperceiver.errors import UserError
from uniperceiver.interference.groups import ParameterGroup, groups_of
from uniperceiver.interference.online import GradientsOnDemand, GradientSource, PairsOfSteps
from uniperceiver.interference.products import TaskLoss
from uniperceiver.interference.records import EVENT, Interference, as_record, as_values, scalars
from uniperceiver.model.model import Generalist
from uniperceiver.model.upcycle import dense_name
from uniperceiver.records import to_device
from uniperceiver.report.figures import image_of, interference_heat_maps
from uniperceiver.training.log import RunLog
from uniperceiver.training.objective import TrainingObjective

MOST = 100  # batches of each task, where nobody says how many


def trained_groups(model: Generalist, pattern: str) -> tuple[ParameterGroup, ...]:
    """Find the groups of trained parameters that a pattern chooses; all experts of a matrix are one.

    Raises:
        UserError: no parameter has such a name, or none of those that have is trained.
    """
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    groups = groups_of(dict(model.named_parameters()), pattern, dense_name)
    groups = tuple(replace(group, parameters=tuple(filter(trained.__contains__, group.parameters))) for group in groups)
    if not all(group.parameters for group in groups):
        raise UserError(f"parameters: {pattern!r} is not trained here; choose parameters that are")
    return groups


def batches_of_each_task(mixture: Mixture, asked: int | None) -> int:
    """Count the batches of each task that are measured: as many as were asked for, or 100 or what the smallest set has.

    Raises:
        UserError: batches would share samples, which counts as help of a task for itself, or there is only one.
    """
    smallest = min(mixture.sets, key=lambda task: len(task.source) // task.stages[-1].batch)
    size = smallest.stages[-1].batch
    there = len(smallest.source) // size
    if there < max(2, asked or 0):
        raise UserError(
            f"tasks.{smallest.task.name}: its {len(smallest.source)} samples are {there} batches of "
            f"{size}; ask for fewer batches, or for smaller ones"
        )
    return min(there, MOST) if asked is None else asked


@dataclass
class RepeatableBatches:
    """The losses of the same batches of every task whenever it is called, with nothing random in the model."""

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
            for index, task in enumerate(self.mixture.sets):
                stage = len(task.stages) - 1  # the sizes that training ends with
                size = task.stages[stage].batch
                yield Plan(step=number, place=index, index=index, start=number * size, count=size, stage=stage)


class InterferenceCallback:
    """Measures every `every` steps, and writes what it finds to the log, the console and TensorBoard."""

    def __init__(self, config: InterferenceConfig, tasks: tuple[str, ...], gradients: GradientSource) -> None:
        self._config, self._tasks, self._gradients = config, tasks, gradients
        self._begun, self._spent = time.perf_counter(), 0.0

    def after_backward(self, task: str, factor: float) -> None:
        """Take the gradients of a batch."""
        self._gradients.after_backward(task, factor)

    def after_step(self, step: int, log: RunLog) -> None:
        """Measure after every so many steps, and write it down; what cannot be measured stops no training."""
        self._gradients.after_step()
        if step % self._config.every:
            return
        begun, before = time.perf_counter(), self._gradients.seconds
        try:
            measured = self._measured(step)
        except UserError as error:
            log.say(text := f"step {step}: interference was not measured: {error}", warning=True)
            log.line(step, "note", {"text": text})
            return
        self._spent += time.perf_counter() - begun + before
        self._gradients.seconds = 0.0
        share = self._spent / (time.perf_counter() - self._begun)
        self._begun = written = time.perf_counter()
        log.line(step, EVENT, as_values(measured) | {"overhead": share}, {"overhead": share})
        log.show(step, scalars(measured), {EVENT: image_of(interference_heat_maps(measured))})
        log.say(f"step {step}: {_in_words(measured)} (measuring took {100 * share:.1f} % of the time)")
        self._spent = time.perf_counter() - written  # counts with the next steps

    def _measured(self, step: int) -> Interference:
        batches = self._gradients.batches
        return as_record(
            self._gradients.measure(),
            step=step,
            tasks=self._tasks,
            parameters=self._config.parameters,
            batches=batches,
        )


def interference_callback(
    recipe: Recipe, model: Generalist, mixture: Mixture, objective: TrainingObjective
) -> InterferenceCallback | None:
    """Make what measures interference while a run is trained; None: the recipe does not ask for it.

    Raises:
        UserError: fewer than two tasks, or no such parameters.
    """
    config = recipe.interference
    if not config.watch:
        return None
    tasks = tuple(training.task.name for training in mixture.sets)
    if len(tasks) < 2:
        raise UserError("interference.watch: interference is between tasks, and the recipe has one; leave the key out")
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    groups = trained_groups(model, config.parameters)
    if mixture.draws > 1:
        return InterferenceCallback(config, tasks, PairsOfSteps(tasks, groups, parameters, recipe.seed))
    batches = batches_of_each_task(mixture, config.batches)
    losses = RepeatableBatches(model=model, objective=objective, mixture=mixture, batches=batches, workers=0)
    return InterferenceCallback(
        config, tasks, GradientsOnDemand(tasks, groups, parameters, losses, batches, recipe.seed)
    )


def _in_words(measured: Interference) -> str:
    """The pair of tasks, of all layers, in which one clearly hurts the other most."""
    hurting = [
        (float(layer.estimate.matrix_KK[row, column]), measured.tasks[row], measured.tasks[column], layer.name)
        for layer in measured.layers
        for row, column in np.argwhere(layer.estimate.high_KK < 0).tolist()  # NaN is not below 0
    ]
    if not hurting:
        return "interference: no task clearly hurts another"
    value, affected, stepping, name = min(hurting)
    return f"interference: {stepping} hurts {affected} ({value:.2f}, in {name})"
