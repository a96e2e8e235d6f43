"""The mixture: which samples of which tasks a step sees, as a pure function of (seed, step) and counters.

A *draw* is one task's share of a step: `accumulate` batches of that task. A step has `tasks_per_step` draws; unmixed
steps have as many batches of one task, or of `window` tasks one after the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from uniperceiver.config import AugmentConfig
from uniperceiver.data.batch import Kept, Prepared, at_places, collate, prepare, rounded, soft_labels
from uniperceiver.data.formats import Source
from uniperceiver.data.media.mixup import mix
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.data.order import KeyedOrder
from uniperceiver.errors import BrokenSample
from uniperceiver.parallel.deal import deal
from uniperceiver.records import Batch, Broken
from uniperceiver.streams import numpy_stream, seed_of
from uniperceiver.tasks.candidates import TextCodec
from uniperceiver.tasks.task import Task

GOLDEN = (5**0.5 - 1) / 2
NEVER = 2**62  # the step of a stage that is not trained in
MOST_IN_MEMORY = 2**24
"""Samples of a set whose order is drawn at once; that of a larger one is computed place by place."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A task's batches during a part of the run: how large they are, and how often they are drawn."""

    begins: int  # with the step of that number; it ends where the next stage begins
    preprocess: Preprocess
    batch: int
    weight: float = 1.0  # of the task, relative to the others
    cost: float = 1.0  # of a batch beside those of other tasks, in any unit
    kept: Mapping[str, Kept] = field(default_factory=dict)  # by modality, of which tokens are dropped
    tokens: int = 0  # of a sample's inputs, the longest text counted; 0: nobody has counted
    name: str = ""  # what people call its sizes


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """A task with its training samples."""

    task: Task
    index: int  # among the tasks of the run
    source: Source
    augment: AugmentConfig
    # In the order in which they begin, the first with step 0; the last is that of what is measured, and of training's
    # end, if it is trained in.
    stages: tuple[Stage, ...]
    # How often each of the stages is drawn, where they take turns instead of following each other; else empty.
    turns: tuple[float, ...] = ()
    lr: float = 1.0  # factor on the learning rate in steps of this task alone

    def drawn_stage(self, step: int, draw: int, seed: int) -> int:
        """The number of the stage that a draw of a step has, of those that take turns."""
        if sum(share > 0 for share in self.turns) <= 1:
            return self.stage_at(step)
        shares = np.array(self.turns)
        rng = numpy_stream(seed, "shape", self.task.name, step, draw)
        return int(rng.choice(len(shares), p=shares / shares.sum()))

    def stage_at(self, step: int) -> int:
        """The number of the stage that a step belongs to: of those that have begun, the last."""
        return max(number for number, stage in enumerate(self.stages) if stage.begins <= step)

    @property
    def mixes(self) -> bool:
        """Whether pictures (or sounds) and labels of a batch are blended with each other."""
        alone = self.task.inputs == self.task.media and len(self.task.media) == 1
        return self.task.answer.has_labels and alone and bool(self.augment.mixup or self.augment.cutmix)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One batch to make: samples start .. start + count of the task's endless shuffled sequence.

    With `places` only a part of it is made, as it lies in the whole batch: DropPath and the noise of gates are drawn
    as there, and pictures are blended with partners from the whole batch. So the losses of the parts, weighted by
    their known answers, add up to that of the whole, for tasks whose candidates are labels or all words. Where a part's
    own samples decide, it is a batch of its own: candidates that are texts of the batch or a sample around its targets,
    an expert's capacity, the losses that balance experts, and in causal text the padding, behind which the queries
    take their noise.
    """

    step: int
    place: int  # among the batches of the step
    index: int  # task
    start: int
    count: int
    stage: int  # its number among the task's stages
    places: tuple[int, ...] | None = None  # of 0 .. count - 1, rising: the part that is made; None: all of it


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The tasks of a run, and how they take turns."""

    sets: tuple[TrainingSet, ...]
    codec: TextCodec
    seed: int
    mode: Literal["mixed", "unmixed"]
    tasks_per_step: int
    accumulate: int
    window: int = 1  # draws of an unmixed step
    order: Literal["random", "even"] = "random"
    round: int = 1  # texts are padded to a multiple of so many tokens

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
        """The sampling ratio of each task in the first step; they add up to 1."""
        weights = self._weights(0)
        return tuple((weights / weights.sum()).tolist())

    def tasks_of(self, step: int) -> tuple[int, ...]:
        """Indices of the tasks that a step draws, in proportion to the weights.

        `random`: independently, with replacement. `even`: the multiples of the golden ratio, whose fractions fill the
        unit interval as evenly as any sequence can, fall into parts of it as long as the tasks' shares.
        """
        weights = self._weights(step)
        rng = numpy_stream(self.seed, "tasks", *([step] if self.order == "random" else []))
        if self.order == "random":
            drawn = rng.choice(len(weights), size=self.draws, p=weights / weights.sum())
        else:
            place_T = (rng.random() + (step * self.draws + np.arange(self.draws)) * GOLDEN) % 1.0
            drawn = np.searchsorted(np.cumsum(weights) / weights.sum(), place_T, side="right")
            drawn = np.minimum(drawn, np.flatnonzero(weights)[-1])  # of a sum that rounding keeps below 1
        return tuple(int(index) for index in np.repeat(drawn, self.batches_per_step // self.draws))

    def _weights(self, step: int) -> np.ndarray:
        return np.array([tasks.stages[tasks.stage_at(step)].weight for tasks in self.sets])

    def plans(self, step: int, consumed: Sequence[int]) -> list[Plan]:
        """The batches of a step.

        Args:
            consumed: samples that each task has seen before this step.
        """
        starts, plans, of_draw = list(consumed), [], self.batches_per_step // self.draws
        for place, index in enumerate(self.tasks_of(step)):
            stage = self.sets[index].drawn_stage(step, place // of_draw, self.seed)
            count = self.sets[index].stages[stage].batch
            plans.append(Plan(step=step, place=place, index=index, start=starts[index], count=count, stage=stage))
            starts[index] += count
        return plans

    def ranks(self, plans: Sequence[Plan], size: int) -> list[int]:
        """The process that makes each batch of a step, of so many processes."""
        return deal([self.sets[plan.index].stages[plan.stage].cost for plan in plans], size)

    def endless(self, step: int, consumed: Sequence[int], rank: int = 0, size: int = 1) -> Iterator[Plan]:
        """The batches of that step and of all that follow: those that process `rank` of `size` makes."""
        counts = list(consumed)
        while True:
            plans = self.plans(step, counts)
            for plan, owner in zip(plans, self.ranks(plans, size), strict=True):
                counts[plan.index] += plan.count
                if owner == rank:
                    yield plan
            step += 1


@dataclass
class BatchMaker:
    """Plans to batches; the only state is a memory of shuffled orders, so any process makes the same batch."""

    mixture: Mixture
    _orders: dict[tuple[int, int], np.ndarray | KeyedOrder] = field(default_factory=dict)

    def __getitem__(self, plan: Plan) -> tuple[Plan, Batch | None, tuple[Broken, ...]]:
        """The batch of a plan (None if every sample is broken), and the samples that were left out."""
        training_set = self.mixture.sets[plan.index]
        places = range(plan.count) if plan.places is None else plan.places
        # Pictures are blended with any other of the batch, so all of them are made.
        prepared, broken = self._samples(training_set, plan, range(plan.count) if training_set.mixes else places)
        there = [place for place in places if place in prepared]
        left_out = tuple(broken[place] for place in places if place in broken)
        if not there:
            return plan, None, left_out
        items = [prepared[place] for place in there]
        batch = collate(training_set.task, items, self.mixture.codec, training_set.index)
        if len(there) < plan.count:
            batch = at_places(batch, there, plan.count)
        if training_set.mixes:
            batch = self._mixed_up(training_set, plan, batch, prepared, there)
        return plan, rounded(batch, self.mixture.round), left_out

    def _samples(
        self, training_set: TrainingSet, plan: Plan, places: Sequence[int]
    ) -> tuple[dict[int, Prepared], dict[int, Broken]]:
        """The samples at those places of a plan, and those that are broken, by place."""
        task, source = training_set.task, training_set.source
        stage, augment, codec = training_set.stages[plan.stage], training_set.augment, self.mixture.codec
        prepared, broken = {}, {}
        for place in places:
            epoch, position = divmod(plan.start + place, len(source))
            sample_index = int(self._order(plan.index, epoch)[position])
            rng = numpy_stream(self.mixture.seed, "sample", task.name, epoch, sample_index)
            try:
                sample = source.read(sample_index)
                prepared[place] = prepare(task, sample, stage.preprocess, codec, augment, rng, stage.kept)
            except BrokenSample as error:
                broken[place] = Broken(task=task.name, sample=error.sample, reason=error.reason)
        return prepared, broken

    def _order(self, index: int, epoch: int) -> np.ndarray | KeyedOrder:
        """The order of a task's samples in an epoch; the last two epochs of each task are remembered."""
        if (index, epoch) not in self._orders:
            training_set = self.mixture.sets[index]
            names, size = ("order", training_set.task.name, epoch), len(training_set.source)
            self._orders.pop((index, epoch - 2), None)
            self._orders[index, epoch] = (
                numpy_stream(self.mixture.seed, *names).permutation(size)
                if size <= MOST_IN_MEMORY
                else KeyedOrder(size, seed_of(self.mixture.seed, *names))
            )
        return self._orders[index, epoch]

    def _mixed_up(
        self, training_set: TrainingSet, plan: Plan, batch: Batch, prepared: Mapping[int, Prepared], there: list[int]
    ) -> Batch:
        """Mixup or cutmix of a batch of labelled pictures or sounds, with the labels mixed alike.

        Args:
            prepared: the samples of the whole batch, by place.
            there: the places of those in `batch`.
        """
        whole = batch
        if len(there) < len(prepared):
            whole = collate(training_set.task, list(prepared.values()), self.mixture.codec, training_set.index)
        (part,), augment = whole.inputs.parts, training_set.augment  # of one medium: other recipes are refused
        rng = numpy_stream(self.mixture.seed, "mix", plan.step, plan.place)
        soft_BK = soft_labels(whole.readout, len(training_set.task.labels))
        pixels_BFCHW, soft_BK = mix(part.values, soft_BK, augment.mixup, augment.cutmix, rng)
        if whole is not batch:
            rows = [row for row, place in enumerate(prepared) if place in there]
            pixels_BFCHW, soft_BK = pixels_BFCHW[rows], soft_BK[rows]
        return replace(
            batch,
            inputs=replace(batch.inputs, parts=(replace(part, values=pixels_BFCHW),)),
            readout=replace(batch.readout, soft_RK=soft_BK),
        )


def sampling_weights(sizes: Mapping[str, int], explicit: Mapping[str, float | None], alpha: float) -> dict[str, float]:
    """Relative weight of each task: the explicit one, or n ** alpha, n the size of its training set.

    This is temperature sampling, p_k ∝ n_k^(1/T) with T = 1 / alpha: alpha = 1 draws in proportion to the sizes,
    alpha = 0 all tasks equally often (T → ∞). Implicit weights are scaled to a mean of 1, so that an explicit weight of
    1 means "as often as the average".

    Source: Arivazhagan et al., "Massively Multilingual Neural Machine Translation in the Wild" (arXiv 1907.05019).
    """
    implicit = {name: sizes[name] ** alpha for name, weight in explicit.items() if weight is None}
    mean = sum(implicit.values()) / max(len(implicit), 1)
    return {name: implicit[name] / mean if weight is None else weight for name, weight in explicit.items()}
