"""Learning per CPU second: held-out loss and accuracy of this library's models, and of plain ones on the same pictures.

python -m benchmarks.learning [RECIPE[:TASK,...] ...] [--seconds S] [--seeds N] [--arm "NAME KEY=VALUE"] [--json FILE]

`demo` is the recipe of `uniperceiver demo`; without names its task `shapes`. Where a set is one task of pictures with
classes, two peers learn from the same batches: a plain ViT and a small ResNet, both with AdamW. Each learner has the
same CPU seconds of one thread for its training steps; its schedule ends with them.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.markdown import markdown_table
from benchmarks.peers import ResNet, VisionTransformer
from benchmarks.step import DEMO
from uniperceiver import Recipe, read_recipe
from uniperceiver.data.loader import load
from uniperceiver.data.mix import BatchMaker, Plan
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.devices import device_of
from uniperceiver.errors import UserError
from uniperceiver.evaluation.evaluate import evaluate, main_metric
from uniperceiver.evaluation.split import Settings, Split, batches
from uniperceiver.optimisation.adamw import learning_rate
from uniperceiver.records import Batch
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.runs.validation import evaluation_settings, splits_of
from uniperceiver.training.loop import Run

ARMS: dict[str, dict[str, str]] = {
    "linear, adamw": {"model.stem": "linear", "optimiser.kind": "adamw"},
    "conv, adamw": {"model.stem": "conv", "optimiser.kind": "adamw"},
    "linear, muon": {"model.stem": "linear", "optimiser.kind": "muon"},
    "conv, muon": {"model.stem": "conv", "optimiser.kind": "muon"},
}
PEERS: dict[str, Callable[[int, int], nn.Module]] = {"plain ViT": VisionTransformer, "small ResNet": ResNet}
_TIMED = 8  # steps by which the number of steps in the given seconds is found
_POINTS = 4  # evaluations, the last at the end
_HELD_OUT = 400  # samples of each split
_WARMUP = 0.08  # of the steps


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A task's held-out figures."""

    loss: float
    main: float  # its main metric, such as accuracy@1


@dataclass(frozen=True, kw_only=True)
class Point:
    """What a learner had learnt after some CPU seconds of training steps."""

    seconds: float
    step: int
    tasks: Mapping[str, Figures]


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A learner's curve."""

    set: str
    arm: str
    seed: int
    parameters: int
    points: Sequence[Point]


class Learner(Protocol):
    """What is trained step by step, and measured in between."""

    steps: int  # of its schedule

    @property
    def parameters(self) -> int: ...
    def step(self) -> None: ...
    def measured(self) -> Mapping[str, Figures]: ...


class OfRecipe:
    """A run of a recipe, step by step."""

    def __init__(self, recipe: Recipe, tasks: list[TaskData], base: Path, folder: Path, steps: int) -> None:
        warmup = max(1, round(_WARMUP * steps))
        recipe = replace(recipe, steps=steps, optimiser=replace(recipe.optimiser, warmup=warmup))
        self.steps = steps
        self.run = prepare_run(recipe, base, folder, tasks=tasks, quiet=True)
        self.run.state.consumed = [0] * len(self.run.mixture.sets)
        self._work = _work(self.run)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.run.state.model.parameters())

    def step(self) -> None:
        self.run._step(next(self._work))

    def measured(self) -> Mapping[str, Figures]:
        found = {}
        for split, settings in _splits(self.run):
            metrics = evaluate(self.run.state.model.eval(), split, settings)
            found[split.task.name] = Figures(loss=metrics["loss"], main=metrics[main_metric(split.task)])
        self.run.state.model.train()
        return found


class Peer:
    """A plain classifier of pictures, on the batches of a run."""

    def __init__(self, made: Callable[[int, int], nn.Module], feed: OfRecipe) -> None:
        (data,) = feed.run.tasks
        torch.manual_seed(feed.run.recipe.seed)
        self.steps, self._feed = feed.steps, feed
        self.model = made(data.config.size, len(data.task.labels))
        matrices = [parameter for parameter in self.model.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self.model.parameters() if parameter.ndim <= 1]
        self._optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], fused=True
        )
        self._done = 0

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def step(self) -> None:
        ((_, batch),) = next(self._feed._work)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self._done, self.steps, self._feed.run.recipe.optimiser)
        self._optimiser.zero_grad()
        F.cross_entropy(self.model(_pictures(batch)), batch.readout.target_R).backward()
        self._optimiser.step()
        self._done += 1

    @torch.no_grad()
    def measured(self) -> Mapping[str, Figures]:
        self.model.eval()
        ((split, settings),) = _splits(self._feed.run)
        losses, hits = list[Tensor](), list[Tensor]()
        for batch, _ in batches(split, settings):
            logits, target = self.model(_pictures(batch)), batch.readout.target_R
            losses.append(F.cross_entropy(logits, target, reduction="none"))
            hits.append(logits.argmax(dim=1) == target)
        self.model.train()
        loss, main = (float(torch.cat(values).float().mean()) for values in (losses, hits))
        return {split.task.name: Figures(loss=loss, main=main)}


def _pictures(batch: Batch) -> Tensor:
    """(B, C, H, W): the pictures of a batch."""
    (part,) = batch.inputs.media
    return part.values[:, 0]


def _work(run: Run) -> Iterator[list[tuple[Plan, Batch]]]:
    """The batches of step after step."""
    made = load(BatchMaker(run.mixture), run.mixture.endless(0, run.state.consumed), 0)
    while True:
        step = [next(made) for _ in range(run.mixture.batches_per_step)]
        yield [(plan, batch) for plan, batch, _ in step if batch is not None]


def _splits(run: Run) -> Iterator[tuple[Split, Settings]]:
    settings = evaluation_settings(run.recipe, run.objective.codec, device_of(run.recipe.device))
    for data in run.tasks:
        yield splits_of(data, ("val", "train"))[0], replace(settings, limit=_HELD_OUT)


def measure(name: str, arms: Mapping[str, Mapping[str, str]], seeds: int, seconds: float) -> Iterator[Learned]:
    """Train every learner of a set, seed by seed, all of a seed in turns of a step.

    Raises:
        UserError: there is no such recipe or task; a key or value that no recipe has.
    """
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            learners = dict(_learners(name, arms, seed, seconds, Path(folder)))
            yield from _trained(name, seed, learners)


def _recipe(name: str, changes: Mapping[str, str]) -> tuple[Recipe, Path]:
    """The recipe of a set, with its tasks alone."""
    place, _, tasks = name.partition(":")
    path = DEMO if place == "demo" else Path(place)
    fixed = {"evaluation.every": "0", "data.workers": "0", "log.tensorboard": "false"}
    recipe = read_recipe(path, {**fixed, **changes})
    chosen = tasks.split(",") if tasks else list(recipe.tasks)
    if unknown := next((task for task in chosen if task not in recipe.tasks), None):
        raise UserError(f"{name}: {path} has no task {unknown!r}; its tasks are {', '.join(recipe.tasks)}")
    if len(chosen) == 1:
        recipe = replace(recipe, sampling=replace(recipe.sampling, tasks_per_step=1))
    return replace(recipe, tasks={task: recipe.tasks[task] for task in chosen}), path.parent


def _learners(
    name: str, arms: Mapping[str, Mapping[str, str]], seed: int, seconds: float, folder: Path
) -> Iterator[tuple[str, Learner]]:
    """Each learner with as many steps as it makes in the given seconds."""
    tasks: list[TaskData] | None = None
    for arm, changes in arms.items():
        recipe, base = _recipe(name, {**changes, "seed": str(seed)})
        tasks = tasks or open_tasks(recipe, base)
        make = partial(OfRecipe, recipe, tasks, base, folder / arm)
        yield arm, make(_steps_in(seconds, make(1000)))
    assert tasks is not None
    kinds = [(data.task.inputs, data.task.answer.has_labels) for data in tasks]
    if kinds == [(("image",), True)]:
        recipe, base = _recipe(name, {"seed": str(seed), "model.stem": "linear", "moe.condition": "shared"})
        feed = partial(OfRecipe, recipe, tasks, base, folder / "peers")
        for peer, made in PEERS.items():
            yield peer, Peer(made, feed(_steps_in(seconds, Peer(made, feed(1000)))))


def _steps_in(seconds: float, learner: Learner) -> int:
    """How many steps a learner makes in so many CPU seconds."""
    learner.step()
    start = time.process_time()
    for _ in range(_TIMED):
        learner.step()
    return max(_POINTS, round(seconds * _TIMED / (time.process_time() - start)))


def _trained(name: str, seed: int, learners: Mapping[str, Learner]) -> Iterator[Learned]:
    """Train all, always the one that is least far, so that what disturbs the machine disturbs all alike."""
    spent, done = dict.fromkeys(learners, 0.0), dict.fromkeys(learners, 0)
    points: dict[str, list[Point]] = {arm: [] for arm in learners}
    unfinished = dict(learners)
    while unfinished:
        arm = min(unfinished, key=lambda arm: done[arm] / learners[arm].steps)
        learner, start = learners[arm], time.process_time()
        learner.step()
        spent[arm] += time.process_time() - start
        done[arm] += 1
        if done[arm] * _POINTS >= (len(points[arm]) + 1) * learner.steps:
            points[arm].append(Point(seconds=spent[arm], step=done[arm], tasks=learner.measured()))
        if done[arm] == learner.steps:
            del unfinished[arm]
            yield Learned(set=name, arm=arm, seed=seed, parameters=learner.parameters, points=points[arm])


def table(rows: Sequence[Learned]) -> str:
    """Of each set and arm: the main metric of each task at each point, median (least - most) of the seeds; the loss."""
    lines = []
    for place, arm in dict.fromkeys((row.set, row.arm) for row in rows):
        of_arm = [row for row in rows if (row.set, row.arm) == (place, arm)]
        for task in of_arm[0].points[0].tasks:
            mains = [_spread([row.points[point].tasks[task].main for row in of_arm]) for point in range(_POINTS)]
            losses = [row.points[-1].tasks[task].loss for row in of_arm]
            steps, seconds = (median(values) for values in zip(*_ends(of_arm), strict=True))
            lines.append([place, task, arm, *mains, f"{median(losses):.2f}", f"{steps:.0f}", f"{seconds:.0f}"])
    parts = [f"{point + 1}/{_POINTS}" for point in range(_POINTS)]
    return markdown_table(["set", "task", "arm", *parts, "loss", "steps", "CPU s"], lines)


def _ends(rows: Sequence[Learned]) -> list[tuple[int, float]]:
    return [(row.points[-1].step, row.points[-1].seconds) for row in rows]


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


def _arm(words: str) -> tuple[str, dict[str, str]]:
    """An arm of the command line: its name, and the keys that it changes."""
    name, *changes = words.split()
    if not all("=" in change for change in changes):
        raise argparse.ArgumentTypeError(f"{words!r}: give a name and KEY=VALUE words")
    return name, dict(change.split("=", 1) for change in changes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, and write the curves as JSON, seed after seed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("sets", nargs="*", default=["demo:shapes"], metavar="RECIPE[:TASK,...]")
    parser.add_argument("--seconds", type=float, default=90.0, help="CPU seconds of training steps of each learner")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arm", type=_arm, action="append", metavar="NAME KEY=VALUE ...", help="instead of the usual")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows: list[Learned] = []
    try:
        for name in options.sets:
            for learned in measure(name, dict(options.arm or ARMS.items()), options.seeds, options.seconds):
                rows.append(learned)
                last = learned.points[-1]
                figures = ", ".join(f"{task} {found.main:.3f}" for task, found in last.tasks.items())
                print(f"{name}, {learned.arm}, seed {learned.seed}: {last.step} steps, {figures}", flush=True)
                if options.json:
                    options.json.write_text(json.dumps(_plain(rows), indent=1) + "\n", encoding="utf-8")
    except UserError as error:
        parser.error(str(error))
    print(table(rows))


def _plain(rows: Sequence[Learned]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


if __name__ == "__main__":
    main()
