"""MIXTURE -> PLAN OF TURNS: how often each task is trained in which shape, as planned, before anything is trained."""

from dataclasses import dataclass

from uniperceiver.data.mix import Mixture, TrainingSet


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A task in one of its shapes."""

    task: str
    index: int  # of the task
    stage: int  # its number among the task's stages
    shape: str  # the sizes
    tokens: int  # of a sample's inputs, the longest text counted
    batch: int
    steps: float  # share of the steps, or of the batches where steps mix tasks
    share: float  # of the tokens


def alike(tasks: TrainingSet, stage: int) -> int:
    """The first of the stages of a task that has the sizes of that one."""
    sizes = [(other.preprocess, other.batch, dict(other.kept)) for other in tasks.stages]
    return sizes.index(sizes[stage])


def turns_at(mixture: Mixture, step: int) -> list[Turn]:
    """What is planned at a step, task by task; shares add up to 1. A stage has the number of the first of its sizes."""
    weights = [tasks.stages[tasks.stage_at(step)].weight for tasks in mixture.sets]
    drawn = []
    for tasks, weight in zip(mixture.sets, weights, strict=True):
        turns = tasks.turns or [float(number == tasks.stage_at(step)) for number in range(len(tasks.stages))]
        drawn += [
            (tasks, number, weight / sum(weights) * share / sum(turns)) for number, share in enumerate(turns) if share
        ]
    tokens = [steps * tasks.stages[number].batch * tasks.stages[number].tokens for tasks, number, steps in drawn]
    return [
        Turn(
            task=tasks.task.name,
            index=tasks.index,
            stage=alike(tasks, number),
            shape=tasks.stages[number].name,
            tokens=tasks.stages[number].tokens,
            batch=tasks.stages[number].batch,
            steps=steps,
            share=count / (sum(tokens) or 1),
        )
        for (tasks, number, steps), count in zip(drawn, tokens, strict=True)
    ]
