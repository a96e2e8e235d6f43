"""TASKS -> MIXTURE: how often each task is trained and at which sizes, and how the tasks share an update."""

import dataclasses

from uniperceiver.config import Recipe
from uniperceiver.data.mix import Mixture, Stage, TrainingSet, sampling_weights
from uniperceiver.data.tasks import TaskData
from uniperceiver.optimisation.balance.method import Method, TaskFacts
from uniperceiver.optimisation.balance.methods import make
from uniperceiver.tokenizers import bpe


def mixture_of(recipe: Recipe, tasks: list[TaskData], codec: bpe.TextEncoder) -> Mixture:
    """The tasks of a run, and how they take turns."""
    sizes = {data.task.name: len(data.sources["train"]) for data in tasks}
    explicit = {data.task.name: data.config.weight for data in tasks}
    weights = sampling_weights(sizes, explicit, recipe.sampling.alpha)
    late = round(recipe.late_from * recipe.steps)
    return Mixture(
        sets=tuple(_training_set(data, weights[data.task.name], late) for data in tasks),
        codec=codec,
        seed=recipe.seed,
        mode=recipe.sampling.mode,
        tasks_per_step=recipe.sampling.tasks_per_step,
        accumulate=recipe.optimiser.accumulate,
        window=recipe.balance.window,
    )


def _training_set(data: TaskData, weight: float, late: int) -> TrainingSet:
    """A task with its samples, whose batches have the sizes of `tasks.NAME.late` from that step on."""
    config = data.config
    early_view = dataclasses.replace(data.view, size=config.size, frames=config.frames)
    assert data.index is not None
    return TrainingSet(
        task=data.task,
        index=data.index,
        source=data.sources["train"],
        weight=weight,
        augment=config.augment,
        stages=(
            Stage(begins=0, view=early_view, batch=config.batch),
            Stage(begins=late, view=data.view, batch=config.late.batch or config.batch),
        ),
    )


def method_of(recipe: Recipe, tasks: list[TaskData], mixture: Mixture) -> Method:
    """How the tasks share an update."""
    facts = {
        data.task.name: TaskFacts(loss_weight=data.config.loss_weight, share=share)
        for data, share in zip(tasks, mixture.shares, strict=True)
    }
    return make(recipe.balance, facts, recipe.seed)
