"""The mixture: which samples of which tasks a step sees, as a pure function of (seed, step) and counters.

A *draw* is one task's share of a step: `accumulate` batches of that task. A step has `tasks_per_step` draws; unmixed
steps have as many batches of one task, or of `window` tasks one after the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from uniperceiver.config import AugmentConfig
from uniperceiver.data.batch import at_places, collate, prepare, soft_labels
from uniperceiver.data.formats import Source
from uniperceiver.data.media.mixup import mix
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.errors import BrokenSample
from uniperceiver.records import Batch, Broken
from uniperceiver.streams import numpy_stream
from uniperceiver.tasks.candidates import TextCodec
from uniperceiver.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Sizes of a task's batches during a part of the run."""

    preprocess: Preprocess
    batch: int


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """A task with its training samples."""

    task: Task
    index: int  # among the tasks of the run
    source: Source
    weight: float  # relative sampling weight
    augment: AugmentConfig
    early: Stage
    late: Stage  # from `Mixture.late_step` on


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One batch to make: samples start .. start + count of the task's endless shuffled sequence."""

    step: int
    place: int  # among the batches of the step
    index: int  # task
    start: int
    count: int
    late: bool


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The tasks of a run, and how they take turns."""

    sets: tuple[TrainingSet, ...]
    codec: TextCodec
    seed: int
    mode: Literal["mixed", "unmixed"]
    tasks_per_step: int
    accumulate: int
    late_step: int
    window: int = 1  # draws of an unmixed step

    @property
    def batches_per_step(self) -> int:
        """Batches whose gradients are averaged in a step."""
        return self.tasks_per_step * self.accumulate * self.window

    @property
    def draws(self) -> int:
        """Tasks that a step draws, with replacement."""
        return self.tasks_per_step if self.mode == "mixed" else self.window

    @property
    def shares(self) -> tuple[float, ...]:
        """The sampling ratio of each task; they add up to 1."""
        total = sum(each.weight for each in self.sets)
        return tuple(each.weight / total for each in self.sets)

    def tasks_of(self, step: int) -> tuple[int, ...]:
        """Indices of the tasks that a step draws: with replacement, in proportion to the weights."""
        weights = np.array([each.weight for each in self.sets])
        rng = numpy_stream(self.seed, "tasks", step)
        drawn = rng.choice(len(weights), size=self.draws, p=weights / weights.sum())
        return tuple(int(index) for index in np.repeat(drawn, self.batches_per_step // self.draws))

    def plans(self, step: int, consumed: Sequence[int]) -> list[Plan]:
        """The batches of a step.

        Args:
            consumed: samples that each task has seen before this step.
        """
        consumed, late, plans = list(consumed), step >= self.late_step, []
        for place, index in enumerate(self.tasks_of(step)):
            stage = self.sets[index].late if late else self.sets[index].early
            plans.append(Plan(step=step, place=place, index=index, start=consumed[index], count=stage.batch, late=late))
            consumed[index] += stage.batch
        return plans

    def endless(self, step: int, consumed: Sequence[int]) -> Iterator[Plan]:
        """The batches of that step and of all that follow."""
        counts = list(consumed)
        while True:
            for plan in self.plans(step, counts):
                counts[plan.index] += plan.count
                yield plan
            step += 1


@dataclass
class BatchMaker:
    """Plans to batches; the only state is a memory of shuffled orders, so any process makes the same batch."""

    mixture: Mixture
    _orders: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def __getitem__(self, plan: Plan) -> tuple[Plan, Batch | None, tuple[Broken, ...]]:
        """The batch of a plan (None if every sample is broken), and the samples that were left out."""
        one = self.mixture.sets[plan.index]
        preprocess = (one.late if plan.late else one.early).preprocess
        items, places, broken = [], [], []
        for position in range(plan.start, plan.start + plan.count):
            epoch, place = divmod(position, len(one.source))
            sample_index = int(self._order(plan.index, epoch)[place])
            rng = numpy_stream(self.mixture.seed, "sample", one.task.name, epoch, sample_index)
            try:
                sample = one.source.read(sample_index)
                items.append(prepare(one.task, sample, preprocess, self.mixture.codec, one.augment, rng))
                places.append(position - plan.start)
            except BrokenSample as error:
                broken.append(Broken(task=one.task.name, sample=error.sample, reason=error.reason))
        if not items:
            return plan, None, tuple(broken)
        batch = collate(one.task, items, self.mixture.codec, one.index)
        if broken:
            batch = at_places(batch, places, plan.count)
        return plan, self._mixed_up(one, plan, batch), tuple(broken)

    def _order(self, index: int, epoch: int) -> np.ndarray:
        """The order of a task's samples in an epoch; the last two epochs of each task are remembered."""
        if (index, epoch) not in self._orders:
            one = self.mixture.sets[index]
            rng = numpy_stream(self.mixture.seed, "order", one.task.name, epoch)
            self._orders.pop((index, epoch - 2), None)
            self._orders[index, epoch] = rng.permutation(len(one.source))
        return self._orders[index, epoch]

    def _mixed_up(self, one: TrainingSet, plan: Plan, batch: Batch) -> Batch:
        """Mixup or cutmix of a batch of labelled pictures, with the labels mixed alike."""
        augment = one.augment
        if not one.task.answer.has_labels or not (augment.mixup or augment.cutmix):
            return batch
        (part,) = batch.inputs.parts  # of pictures alone: other recipes are refused
        rng = numpy_stream(self.mixture.seed, "mix", plan.step, plan.place)
        soft = soft_labels(batch.readout, len(one.task.labels))
        pixels, soft = mix(part.values, soft, augment.mixup, augment.cutmix, rng)
        return replace(
            batch,
            inputs=replace(batch.inputs, parts=(replace(part, values=pixels),)),
            readout=replace(batch.readout, soft_RK=soft),
        )
