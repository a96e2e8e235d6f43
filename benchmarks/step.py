"""A training step of a recipe: what it spends outside forward, backward and optimiser; sampled candidates; padding.

python -m benchmarks.step [RECIPE] [--quick] [--json FILE]; without a recipe, that of `uniperceiver demo`.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

import uniperceiver
from benchmarks.harness import QUICK_PAIRS, BenchmarkRow, figure, main, ratio
from benchmarks.step_clock import OUTSIDE, timed_run
from uniperceiver import Recipe, read_recipe
from uniperceiver.data.mix import BatchMaker, Mixture, Plan
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.optimisation.adamw import learning_rate
from uniperceiver.records import Batch, Sequences
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.training.loop import Run
from uniperceiver.training.step import train_step

DEMO = Path(uniperceiver.__file__).parent / "recipes" / "demo.yaml"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How long the parts of the benchmark are."""

    parts: int  # of the timed run
    every: int  # steps of a part
    learning: int  # steps of each of the two short trainings
    held_out: int  # batches of each task that they are compared on
    batches: int  # of each task, whose padding is counted


FULL = Scale(parts=20, every=20, learning=300, held_out=8, batches=20)
QUICK = Scale(parts=8, every=10, learning=60, held_out=4, batches=10)


def measure(pairs: int, path: Path | None = None, scale: Scale | None = None) -> list[BenchmarkRow]:
    """Where the time of a step goes, what sampling the vocabulary gains and costs, and how much is padding."""
    path = path or DEMO
    recipe, scale = read_recipe(path), scale or (QUICK if pairs <= QUICK_PAIRS else FULL)
    if recipe.threads:  # which is for the process to set, as the command line does
        torch.set_num_threads(recipe.threads)
    what, base = f"{path.stem}/threads{torch.get_num_threads()}", path.parent
    return [
        *_outside(recipe, base, what, scale),
        *_padding(recipe, base, what, scale),
        *_sampled(recipe, base, what, pairs, scale),
    ]


def _outside(recipe: Recipe, base: Path, what: str, scale: Scale) -> Iterator[BenchmarkRow]:
    """The share of the time outside forward, backward and optimiser, and what is known of it."""
    parts = timed_run(recipe, base, scale.parts, scale.every)
    what = f"{what}/workers{recipe.data.workers}"
    shares = [part.outside for part in parts]
    yield figure(f"step/outside forward, backward, optimiser/{what}", shares, "of the time", goal=0.05)
    for part in OUTSIDE:
        yield figure(f"step/{part}/{what}", [timed.of.get(part, 0.0) / timed.seconds for timed in parts], "of the time")
    yield figure(f"step/time of a step/{what}", [part.seconds / scale.every * 1000 for part in parts], "ms")


def _padding(recipe: Recipe, base: Path, what: str, scale: Scale) -> Iterator[BenchmarkRow]:
    """The share of the tokens that are padding, of inputs and candidates together."""
    with tempfile.TemporaryDirectory() as folder:
        run = prepare_run(recipe, base, Path(folder) / "run", quiet=True)
        for index, training_set in enumerate(run.mixture.sets):
            shares = []
            for plan, batch in _batches(run.mixture, index, scale.batches):
                both = [batch.inputs, run.objective.candidates(batch, plan).sequences]
                padding, tokens = map(sum, zip(*(_tokens_of(run, sequences) for sequences in both), strict=True))
                shares.append(padding / tokens)
            yield figure(
                f"step/padding/{what}/batch{training_set.stages[0].batch}/{training_set.task.name}",
                shares,
                "of the tokens",
            )


@torch.no_grad()
def _tokens_of(run: Run, sequences: Sequences) -> tuple[int, int]:
    """Tokens of padding, and all tokens."""
    tokens = run.state.model.tokenizer(sequences)
    count = tokens.x_BND.shape[0] * tokens.x_BND.shape[1]
    return 0 if tokens.valid_BN is None else int((~tokens.valid_BN).sum()), count


def _sampled(recipe: Recipe, base: Path, what: str, pairs: int, scale: Scale) -> Iterator[BenchmarkRow]:
    """Sampled candidates against the whole vocabulary: time of a batch, and what a short training comes to."""
    kept = {name: config for name, config in recipe.tasks.items() if CATALOGUE[config.kind].candidates == "vocabulary"}
    if not kept:
        return
    warmup = min(recipe.optimiser.warmup, scale.learning // 10)
    recipe = replace(recipe, tasks=kept, steps=scale.learning, optimiser=replace(recipe.optimiser, warmup=warmup))
    tasks = open_tasks(recipe, base)
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        samples = recipe.candidates.sample or _vocabulary(recipe) // 5
        for number in (samples, 0):
            with_number = replace(recipe, candidates=replace(recipe.candidates, sample=number))
            runs.append(prepare_run(with_number, base, Path(folder) / f"{number}", tasks=tasks, quiet=True))
        name, size = f"sampled {samples} over full", f"V{runs[0].objective.codec.size}"
        for index, training_set in enumerate(runs[0].mixture.sets):
            ((plan, batch),) = _batches(runs[0].mixture, index, 1)
            sampled, full = (partial(_gradient, run, plan, batch) for run in runs)
            yield ratio(
                f"step/time, {name}/{what}/batch{len(batch.ids)}/{size} {training_set.task.name}",
                sampled,
                full,
                pairs=pairs,
            )
        for run in runs:
            _train(run)
        for index, data in enumerate(tasks):
            of_sampled, expected = (_losses(run, index, data, scale) for run in runs)
            where = f"{what}/{scale.learning} steps/{size} {data.task.name}"
            more = [mine - other for mine, other in zip(of_sampled, expected, strict=True)]
            yield figure(f"step/loss, full/{where}", expected, "nats")
            yield figure(f"step/loss, sampled {samples} - full/{where}", more, "nats")


def _vocabulary(recipe: Recipe) -> int:
    """Entries of the vocabulary, as far as the recipe says."""
    return recipe.model.vocabulary if isinstance(recipe.model.vocabulary, int) else 50_000


def _gradient(run: Run, plan: Plan, batch: Batch) -> None:
    """Forward and backward of one batch."""
    run.objective(batch, plan).loss.backward()
    run.state.optimiser.zero_grad(set_to_none=True)


def _train(run: Run) -> None:
    """All steps, with nothing around them."""
    state, made, consumed = run.state, BatchMaker(run.mixture), [0] * len(run.mixture.sets)
    while state.step < run.recipe.steps:
        plans = run.mixture.plans(state.step, consumed)
        for plan in plans:
            consumed[plan.index] += plan.count
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(state.step, run.recipe.steps, run.recipe.optimiser)
        work = [(plan, batch) for plan, batch, _ in map(made.__getitem__, plans) if batch is not None]
        train_step(state, work, run.objective, run.recipe.optimiser, 1 / len(plans))


@torch.no_grad()
def _losses(run: Run, index: int, data: TaskData, scale: Scale) -> list[float]:
    """The loss over the whole vocabulary of each held-out batch."""
    source = data.sources.get("val", data.sources["train"])
    sets = [
        replace(training_set, source=source) if training_set.index == data.index else training_set
        for training_set in run.mixture.sets
    ]
    mixture = replace(run.mixture, sets=tuple(sets))
    return [
        float(run.objective(batch, plan, random=False, whole_vocabulary=True).loss)
        for plan, batch in _batches(mixture, index, scale.held_out)
    ]


def _batches(mixture: Mixture, index: int, count: int) -> Iterator[tuple[Plan, Batch]]:
    """The first batches of a task."""
    size = mixture.sets[index].stages[0].batch
    for step in range(count):
        plan = Plan(step=step, place=0, index=index, start=step * size, count=size, stage=0)
        _, batch, _ = BatchMaker(mixture)[plan]
        if batch is not None:
            yield plan, batch


if __name__ == "__main__":
    main(measure, "RECIPE")
