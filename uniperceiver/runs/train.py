"""RECIPE -> FINISHED RUN: training to the end, final evaluation and report in one call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniperceiver.config import Recipe, read_recipe
from uniperceiver.data.tasks import SPLITS, TaskData
from uniperceiver.errors import UserError
from uniperceiver.parallel.lost import missed
from uniperceiver.parallel.start import joined
from uniperceiver.parallel.world import World
from uniperceiver.runs.evaluate import Results, evaluate
from uniperceiver.runs.folder import write_results
from uniperceiver.runs.initial_weights import place_of_start
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.runs.report import REPORT, write_report
from uniperceiver.runs.steps import Step, load_saved, trust_model
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.training.log import Tracker, read_log


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """Hold what a finished run has left: its folder, its figures, and where its report is."""

    folder: Path
    results: Results  # {"tasks": {task: {split: {metric: value}}}}, as in results.json
    report: Path  # an HTML page

    def load(self, device: str = "cpu", *, step: Step | None = None) -> UniPerceiver:
        """Load the trained model, or that of a checkpoint (a step's number, or "best"), ready to be asked."""
        return UniPerceiver(load_saved(self.folder, step), device)

    def log(self) -> list[dict[str, Any]]:
        """Read the lines of log.jsonl: losses, rates and evaluations by step."""
        return read_log(self.folder)


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    base: str | Path | None = None,
    tasks: Sequence[TaskData] | None = None,
    trackers: Sequence[Tracker] = (),
    trust: bool = False,
    quiet: bool = False,
) -> TrainedRun:
    """Train a recipe to its end in the folder `out`, evaluate it, and write results.json and report.html there.

    A run that was stopped goes on where it was saved; a finished one is only evaluated anew. The process is left as it
    is: the recipe's `threads` is for the command line, here `torch.set_num_threads` decides. The call that makes a
    run without training it is `uniperceiver.runs.prepare.prepare_run`.

    Where a launcher has started several processes (torchrun), each of them calls this, and all make the same run.

    Args:
        recipe: a Recipe, or the path of a YAML file.
        overrides: keys of the file to replace, as on the command line: {"optimiser.lr": "3e-4"}.
        base: where relative paths of the recipe start; None: the folder of the file, or the current one.
        tasks: tasks and sources made by a program, instead of those that the recipe names.
        trackers: objects that are told every line of the log while it is trained (`Tracker`).
        trust: execute the Python files that lie beside `model.start` and that it needs; those of the recipe's `import`
            always are.
        quiet: show no progress.

    Raises:
        UserError: something in the recipe cannot be had, or `out` holds a run of another recipe.
        Stopped: a signal asked for it; everything is saved, and the same call goes on.
        ProcessLost: of several processes one is gone; the same call goes on from the newest checkpoint.

    Example:
        >>> import uniperceiver
        >>> from uniperceiver import ModelConfig, Recipe, TaskConfig
        >>> scenes = {"format": "scenes", "items": 24, "pixels": 32, "label": "colour"}
        >>> colours = TaskConfig(kind="image_classification", size=32, batch=8, train=scenes)
        >>> tiny = ModelConfig(width=32, layers=1, heads=2, vocabulary=300)
        >>> run = uniperceiver.train(Recipe(steps=4, model=tiny, tasks={"colours": colours}), "runs/tiny", quiet=True)
        >>> run.results["tasks"]["colours"]["train"]["n"]
        24
        >>> sorted(path.name for path in run.folder.glob("*.*") if path.suffix in (".html", ".json"))
        ['report.html', 'results.json', 'tokenizer.json']
    """
    if not isinstance(recipe, Recipe):
        base = Path(recipe).parent if base is None else base
        recipe = read_recipe(recipe, overrides)
    elif overrides:
        raise UserError("overrides: are for a recipe's file; change a Recipe with dataclasses.replace")
    folder, base, tasks = Path(out), Path(base or "."), None if tasks is None else list(tasks)
    with joined(timeout=recipe.parallel.timeout, accelerated=recipe.device != "cpu") as world:
        quiet = quiet or not world.is_first
        with missed(world, lambda rank: "outside of the steps"):
            if trust and recipe.model.start is not None:
                with world.together(UserError):
                    trust_model(place_of_start(recipe.model.start, base))
            prepare_run(recipe, base, folder, tasks=tasks, trackers=trackers, quiet=quiet, world=world).train()
            return _finished(recipe, folder, tasks, quiet, world)


def _finished(recipe: Recipe, folder: Path, tasks: list[TaskData] | None, quiet: bool, world: World) -> TrainedRun:
    """Measure a run that is trained, and write its results and its report."""
    limit = recipe.evaluation.train_limit
    results = evaluate(folder, splits=SPLITS, tasks=tasks, train_limit=limit, quiet=quiet, world=world)
    with world.together(UserError):
        if world.is_first:
            write_results(folder, results)
            write_report(folder, results, tasks, quiet=quiet)
    return TrainedRun(folder=folder, results=results, report=folder / REPORT)
