"""Commands that train and measure runs."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from uniperceiver.cli.output import print_json
from uniperceiver.errors import UserError

if TYPE_CHECKING:
    from uniperceiver.config import Recipe

_DEMO = Path(__file__).parents[1] / "recipes" / "demo.yaml"


def demo(options: argparse.Namespace) -> int | None:
    """Train the embedded default on generated scenes, evaluate it, ask it, and write the report."""
    from uniperceiver.runs.recipe import read_overrides

    return _train(_DEMO, read_overrides(options.overrides), Path(options.out), options.json)


def train(options: argparse.Namespace) -> int | None:
    """Train a recipe, or go on with a run."""
    from uniperceiver.runs.recipe import read_overrides

    return _train(Path(options.recipe), read_overrides(options.overrides), Path(options.out), options.json)


def tune(options: argparse.Namespace) -> int | None:
    """Adapt a finished model to a recipe's tasks, or to a folder of pictures."""
    from uniperceiver.runs.recipe import read_overrides
    from uniperceiver.runs.tune_recipe import tune_recipe

    overrides = read_overrides(options.overrides)
    if options.fraction is not None:
        overrides["tune.fraction"] = options.fraction
    data, out = Path(options.data), Path(options.out)
    recipe = tune_recipe(options.model, data, options.method, overrides)
    return _run(recipe, data.parent, out, options.json)


def _train(path: Path, overrides: dict[str, str], out: Path, as_json: bool) -> int | None:
    from uniperceiver.runs.recipe import read_recipe

    return _run(read_recipe(path, overrides), path.parent, out, as_json)


def _run(recipe: "Recipe", base: Path, out: Path, as_json: bool) -> int | None:
    """Train to the end, measure, and write the report."""
    from uniperceiver.training.stop import EXIT_CODE, Stopped, stop_at_once

    try:
        with stop_at_once():
            _run_to_the_end(recipe, base, out, as_json)
    except Stopped:
        print(f"stopped after saving; the same command goes on from there ({out})", file=sys.stderr)
        return EXIT_CODE
    return None


def _run_to_the_end(recipe: "Recipe", base: Path, out: Path, as_json: bool) -> None:
    from uniperceiver.runs import evaluate as figures_of
    from uniperceiver.runs import report as report_of
    from uniperceiver.runs.prepare import prepare_run

    prepare_run(recipe, base, out).train()
    figures = figures_of.evaluate_run(out, splits=("train", "val", "test"), train_limit=recipe.evaluation.train_limit)
    figures_of.write_results(out, figures)
    report = report_of.write_report(out, figures)
    if as_json:
        print_json({"run": str(out), "report": str(report), **figures})
    else:
        figures_of.print_results(figures)
        print(f"model:  {out / 'model'}\nreport: {report}")


def evaluate(options: argparse.Namespace) -> int | None:
    """Measure a run, or a saved model on other data."""
    from uniperceiver.runs import evaluate as figures_of
    from uniperceiver.strict import to_json

    splits = tuple(options.split) if options.split else ("val", "test")
    if options.json and not Path(options.json).parent.is_dir():
        raise UserError(f"--json: there is no folder {Path(options.json).parent}; make it first")
    figures = figures_of.evaluate_run(
        Path(options.run),
        splits=splits,
        task=options.task,
        data=options.data and Path(options.data),
        device=options.device,
    )
    if options.json:
        Path(options.json).write_text(to_json(figures, indent=1) + "\n", encoding="utf-8")
    figures_of.print_results(figures)
    return None
