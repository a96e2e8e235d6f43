"""Commands that train and measure runs."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from uniperceiver.cli.output import print_json, print_results
from uniperceiver.cli.process import settle, settle_for_run
from uniperceiver.errors import UserError

if TYPE_CHECKING:
    from uniperceiver.config import Recipe

_DEMO = Path(__file__).parents[1] / "recipes" / "demo.yaml"


def demo(options: argparse.Namespace) -> int | None:
    """Train the embedded default on generated scenes, evaluate it, ask it, and write the report."""
    options.recipe = _DEMO
    return train(options)


def train(options: argparse.Namespace) -> int | None:
    """Train a recipe, or go on with a run."""
    from uniperceiver.config import read_overrides, read_recipe

    path = Path(options.recipe)
    recipe = read_recipe(path, read_overrides(options.overrides))
    return _train(recipe, path.parent, Path(options.out), options.json)


def tune(options: argparse.Namespace) -> int | None:
    """Adapt a finished model to a recipe's tasks, or to a folder of pictures."""
    from uniperceiver.config import read_overrides
    from uniperceiver.runs.tuning import tune_recipe

    overrides = read_overrides(options.overrides)
    if options.fraction is not None:
        overrides["tune.fraction"] = options.fraction
    data = Path(options.data)
    recipe = tune_recipe(options.model, data, options.method, overrides)
    return _train(recipe, data.parent, Path(options.out), options.json)


def _train(recipe: "Recipe", base: Path, out: Path, as_json: bool) -> int | None:
    from uniperceiver.runs.train import train
    from uniperceiver.training.stop import EXIT_CODE, Stopped, stop_at_once

    settle(recipe, trains=True)
    try:
        with stop_at_once():
            run = train(recipe, out, base=base)
    except Stopped:
        print(f"stopped after saving; the same command goes on from there ({out})", file=sys.stderr)
        return EXIT_CODE
    if as_json:
        print_json({"run": str(out), "report": str(run.report), **run.results})
    else:
        print_results(run.results)
        print(f"model:  {out / 'model'}\nreport: {run.report}")
    return None


def evaluate(options: argparse.Namespace) -> int | None:
    """Measure a run, or a saved model on other data."""
    from uniperceiver.runs import evaluate as runs
    from uniperceiver.strict import to_json

    splits = tuple(options.split) if options.split else ("val", "test")
    if options.json and not Path(options.json).parent.is_dir():
        raise UserError(f"--json: there is no folder {Path(options.json).parent}; make it first")
    run, data = Path(options.run), options.data and Path(options.data)
    settle_for_run(run, data)
    results = runs.evaluate(run, splits=splits, task=options.task, data=data, device=options.device)
    if options.json:
        Path(options.json).write_text(to_json(results, indent=1) + "\n", encoding="utf-8")
    print_results(results)
    return None
