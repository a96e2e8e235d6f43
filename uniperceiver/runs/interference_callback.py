"""Measuring interference while a run is trained: from its own gradients, or from some that are computed for it."""

import time
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from torch import nn

from uniperceiver.config import InterferenceConfig, Recipe
from uniperceiver.data.mix import Mixture
from uniperceiver.errors import UserError
from uniperceiver.interference.estimate import LEAST_BLOCKS, Estimate, estimate
from uniperceiver.interference.groups import Group
from uniperceiver.interference.online import PairsOfSteps
from uniperceiver.interference.products import products
from uniperceiver.interference.records import EVENT, Interference, as_record, as_values
from uniperceiver.interference.replays import Replays, most_batches, trained_groups
from uniperceiver.model.model import Generalist
from uniperceiver.report.interference_image import heat_map_image, scalars
from uniperceiver.training.log import RunLog
from uniperceiver.training.objective import TrainingObjective


class Instrument(Protocol):
    """What collects gradients between two measurements."""

    seconds: float  # spent so far

    @property
    def batches(self) -> int:
        """Steps that were looked at, or batches of each task: for the record."""

    def after_backward(self, task: str, factor: float) -> None: ...
    def after_step(self) -> None: ...
    def measure(self) -> Mapping[Group, Estimate]: ...


class Watch:
    """Measures every `every` steps, and writes what it finds to the log, the console and TensorBoard."""

    def __init__(self, config: InterferenceConfig, tasks: tuple[str, ...], instrument: Instrument) -> None:
        self._config, self._tasks, self._instrument = config, tasks, instrument
        self._begun, self._spent = time.perf_counter(), 0.0

    def after_backward(self, task: str, factor: float) -> None:
        """A batch's gradients are computed."""
        self._instrument.after_backward(task, factor)

    def after_step(self, step: int, log: RunLog) -> None:
        """A step is done; every so many, what is known is written down. What cannot be measured stops no training."""
        self._instrument.after_step()
        if step % self._config.every:
            return
        begun, before = time.perf_counter(), self._instrument.seconds
        try:
            measured = self._measured(step)
        except UserError as error:
            log.say(text := f"step {step}: interference was not measured: {error}", warning=True)
            log.line(step, "note", {"text": text})
            return
        self._spent += time.perf_counter() - begun + before
        self._instrument.seconds = 0.0
        share = self._spent / (time.perf_counter() - self._begun)
        self._begun = written = time.perf_counter()
        log.line(step, EVENT, as_values(measured) | {"overhead": share}, {"overhead": share})
        log.show(step, scalars(measured), {EVENT: heat_map_image(measured)})
        log.say(f"step {step}: {_in_words(measured)} (measuring took {100 * share:.1f} % of the time)")
        self._spent = time.perf_counter() - written  # counts with the next steps

    def _measured(self, step: int) -> Interference:
        batches = self._instrument.batches
        return as_record(
            self._instrument.measure(),
            step=step,
            tasks=self._tasks,
            parameters=self._config.parameters,
            batches=batches,
        )


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
    parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
    groups = trained_groups(model, config.parameters)
    if mixture.draws > 1:
        return Watch(config, tasks, _OfSteps(PairsOfSteps(tasks, groups, parameters), recipe.seed))
    batches = most_batches(mixture, config.batches)
    replays = Replays(model=model, objective=objective, mixture=mixture, batches=batches, workers=0)
    return Watch(config, tasks, _OfItsOwn(tasks, groups, parameters, replays, recipe.seed))


class _OfSteps:
    """Gradients of the steps between two measurements."""

    def __init__(self, pairs: PairsOfSteps, seed: int) -> None:
        self._pairs, self._seed = pairs, seed
        self.after_backward, self.after_step = pairs.after_backward, pairs.after_step

    @property
    def batches(self) -> int:
        return self._pairs.steps

    @property
    def seconds(self) -> float:
        return self._pairs.seconds

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._pairs.seconds = value

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
        seed: int,
    ) -> None:
        self._tasks, self._groups, self._parameters, self._replays = tasks, groups, parameters, replays
        self.batches, self.seconds, self._seed = replays.batches, 0.0, seed

    def after_backward(self, task: str, factor: float) -> None:
        """Nothing is taken of the training's own gradients."""

    def after_step(self) -> None:
        """Nothing."""

    def measure(self) -> Mapping[Group, Estimate]:
        both_sides = self.batches >= LEAST_BLOCKS
        found = products(self._tasks, self._groups, self._parameters, self._replays, both_sides=both_sides)
        return {group: estimate(each, self._seed) for group, each in found.items()}


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
