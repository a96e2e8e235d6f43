"""Measuring interference while a run is trained: from its own gradients, or from some that are computed for it."""

import time
from collections.abc import Mapping
from typing import Protocol

from torch import nn

from uniperceiver.commands.interference_files import EVENT, as_record, as_values
from uniperceiver.commands.replays import Replays
from uniperceiver.config import InterferenceConfig, Recipe
from uniperceiver.data.mix import Mixture
from uniperceiver.errors import UserError
from uniperceiver.interference.estimate import Estimate, estimate
from uniperceiver.interference.groups import Group, groups_of
from uniperceiver.interference.online import PairsOfSteps
from uniperceiver.interference.products import products
from uniperceiver.model.model import Generalist
from uniperceiver.model.upcycle import dense_name
from uniperceiver.report.contents import Interference
from uniperceiver.report.interference_image import heat_map_image, scalars
from uniperceiver.training.log import RunLog
from uniperceiver.training.objective import TrainingObjective


class Instrument(Protocol):
    """What collects gradients between two measurements."""

    batches: int  # of each task, or of all in a step, for the record

    def after_backward(self, task: str) -> None: ...
    def after_step(self) -> None: ...
    def measure(self) -> Mapping[Group, Estimate]: ...


class Watch:
    """Measures every `every` steps, and writes what it finds to the log, the console and TensorBoard."""

    def __init__(self, config: InterferenceConfig, tasks: tuple[str, ...], instrument: Instrument) -> None:
        self._config, self._tasks, self._instrument = config, tasks, instrument
        self._begun, self._spent = time.perf_counter(), 0.0

    def after_backward(self, task: str) -> None:
        """A batch's gradients are computed."""
        begun = time.perf_counter()
        self._instrument.after_backward(task)
        self._spent += time.perf_counter() - begun

    def after_step(self, step: int, log: RunLog) -> None:
        """A step is done; every so many, what is known is written down."""
        begun = time.perf_counter()
        self._instrument.after_step()
        if step % self._config.every == 0:
            measured = as_record(
                self._instrument.measure(),
                step=step,
                tasks=self._tasks,
                parameters=self._config.parameters,
                batches=self._instrument.batches,
            )
            spent = self._spent + time.perf_counter() - begun
            share = spent / (time.perf_counter() - self._begun)
            log.line(step, EVENT, as_values(measured) | {"overhead": share}, {"overhead": share})
            log.show(step, scalars(measured), {EVENT: heat_map_image(measured)})
            log.say(f"step {step}: {_in_words(measured)} (measuring took {100 * share:.1f} % of the time)")
            self._begun, self._spent = time.perf_counter(), 0.0
        else:
            self._spent += time.perf_counter() - begun


def watch_of(recipe: Recipe, model: Generalist, mixture: Mixture, objective: TrainingObjective) -> Watch | None:
    """What measures interference during a run; None: nothing does.

    Raises:
        UserError: fewer than two tasks, or no such parameters.
    """
    config = recipe.interference
    if not config.watch:
        return None
    tasks = tuple(one.task.name for one in mixture.sets)
    if len(tasks) < 2:
        raise UserError("interference.watch: interference is between tasks, and the recipe has one; leave the key out")
    parameters = dict(model.named_parameters())
    groups = groups_of(parameters, config.parameters, dense_name)
    if mixture.draws > 1:
        return Watch(config, tasks, _OfSteps(PairsOfSteps(tasks, groups, parameters), config.every, recipe.seed))
    replays = Replays(model=model, objective=objective, mixture=mixture, batches=config.batches, workers=0)
    return Watch(config, tasks, _OfItsOwn(tasks, groups, parameters, replays))


class _OfSteps:
    """Gradients of the steps between two measurements."""

    def __init__(self, pairs: PairsOfSteps, every: int, seed: int) -> None:
        self._pairs, self.batches, self._seed = pairs, every, seed
        self.after_backward, self.after_step = pairs.after_backward, pairs.after_step

    def measure(self) -> Mapping[Group, Estimate]:
        return self._pairs.take(self._seed)


class _OfItsOwn:
    """Gradients that are computed for the measurement, as the steps have one task each."""

    def __init__(
        self,
        tasks: tuple[str, ...],
        groups: tuple[Group, ...],
        parameters: Mapping[str, nn.Parameter],
        replays: Replays,
    ) -> None:
        self._tasks, self._groups, self._parameters, self._replays = tasks, groups, parameters, replays
        self.batches = replays.batches

    def after_backward(self, task: str) -> None:
        """Nothing is taken of the training's own gradients."""

    def after_step(self) -> None:
        """Nothing."""

    def measure(self) -> Mapping[Group, Estimate]:
        found = products(self._tasks, self._groups, self._parameters, self._replays)
        return {group: estimate(each) for group, each in found.items()}


def _in_words(measured: Interference) -> str:
    """The pair of tasks, of all layers, in which one hurts the other most, as far as is known."""
    found = [
        (value, affected, stepping, layer.name)
        for layer in measured.layers
        for affected, row in zip(measured.tasks, layer.matrix, strict=True)
        for stepping, value in zip(measured.tasks, row, strict=True)
        if value is not None and affected != stepping
    ]
    if not found:
        return "interference: no pair of tasks could be measured"
    value, affected, stepping, name = min(found)
    return f"interference: lowest is {value:.2f}, of {affected} where {stepping} steps, in {name}"
