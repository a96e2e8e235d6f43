"""Training and inference of a study's arms over those of its baseline: with experts, and merged where they can be.

python -m benchmarks.arms DIR [--quick] [--json FILE]; DIR is a study's folder, of which the first seeds are taken.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.harness import BenchmarkRow, main, ratio
from uniperceiver import UniPerceiver, load
from uniperceiver.data.mix import BatchMaker, Plan
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import UserError
from uniperceiver.model.model import Generalist
from uniperceiver.records import Batch
from uniperceiver.runs.folder import saved_recipe
from uniperceiver.runs.training import method_of, mixture_of, objective_of
from uniperceiver.training.step import TrainState, train_step

Work = list[tuple[Plan, Batch]]


@dataclass(frozen=True, kw_only=True)
class TimedArm:
    """The model of one arm, and how it is trained."""

    name: str
    model: UniPerceiver
    work: Work  # a batch of every task
    train: Callable[[], object]  # a step on all of them


def measure(pairs: int, place: Path | None) -> list[BenchmarkRow]:
    """One batch of every task: a training step, and the inputs through the encoder, of each arm over the baseline."""
    if place is None or not (place / "study.json").is_file():
        raise UserError("name the folder of a study, which has a study.json")
    name = json.loads((place / "study.json").read_text(encoding="utf-8"))["baseline"]
    arms = {arm.name: arm for arm in _arms(place)}
    if name not in arms:
        raise UserError(f"{place}: needs a run of a baseline to compare with; name an arm as `baseline` of the study")
    dense = arms.pop(name)
    baseline, rows = partial(_encode, dense.model.model, dense.work), []
    for arm in arms.values():
        what = f"arms/{arm.name} over {dense.name}/threads{torch.get_num_threads()}"
        rows.append(ratio(f"{what}/training", arm.train, dense.train, pairs=pairs))
        rows.append(ratio(f"{what}/inference", partial(_encode, arm.model.model, arm.work), baseline, pairs=pairs))
        merged = _merged(arm.model)
        if merged is not None:
            folded = partial(_encode, merged.model, arm.work)
            rows.append(ratio(f"{what}/inference merged", folded, baseline, pairs=pairs))
    return rows


def _arms(place: Path) -> Iterator[TimedArm]:
    """Each arm's first run that has a model."""
    for folder in sorted((place / "cells").iterdir()):
        runs = sorted(path for path in folder.glob("seed-*") if (path / "model").is_dir())
        if runs:
            yield _arm(folder.name, runs[0])


def _arm(name: str, run: Path) -> TimedArm:
    recipe, base = saved_recipe(run)
    model, tasks = load(run), open_tasks(recipe, base)
    mixture = mixture_of(recipe, tasks, model.codec, model.model.tokenizer)
    maker, work = BatchMaker(mixture), []
    for index, training_set in enumerate(mixture.sets):
        stage = len(training_set.stages) - 1
        count = training_set.stages[stage].batch
        plan = Plan(step=0, place=index, index=index, start=0, count=count, stage=stage)
        batch = maker[plan][1]
        assert batch is not None, "generated scenes are never broken"
        work.append((plan, batch))
    copy, method = load(run).model.train(), method_of(recipe, tasks, mixture)  # training moves the weights
    state = TrainState(model=copy, optimiser=method.optimiser(copy, recipe.optimiser), method=method)
    objective = objective_of(recipe, tasks, replace(model.saved, model=copy))
    step = partial(train_step, state, work, objective, recipe.optimiser, share=1 / len(work))
    return TimedArm(name=name, model=model, work=work, train=step)


def _merged(model: UniPerceiver) -> UniPerceiver | None:
    """The model without its experts; None where there are none, or they look at values."""
    try:
        return model.merge()
    except UserError:
        return None


def _encode(model: Generalist, work: Work) -> None:
    with torch.no_grad():
        for _, batch in work:
            model.encode(batch.inputs, summary=batch.readout.summary)


if __name__ == "__main__":
    main(measure, "DIR")
