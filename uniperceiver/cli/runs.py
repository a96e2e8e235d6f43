"""Commands that train and measure runs."""

import argparse
import sys
from pathlib import Path

from uniperceiver.cli.output import print_json
from uniperceiver.errors import UserError

_DEMO = Path(__file__).parents[1] / "recipes" / "demo.yaml"


def demo(options: argparse.Namespace) -> int | None:
    """Train the embedded default on generated scenes, evaluate it, ask it, and write the report."""
    from uniperceiver.commands.recipe import read_overrides

    return _train(_DEMO, read_overrides(options.overrides), Path(options.out), options.json)


def train(options: argparse.Namespace) -> int | None:
    """Train a recipe, or go on with a run."""
    from uniperceiver.commands.recipe import read_overrides

    return _train(Path(options.recipe), read_overrides(options.overrides), Path(options.out), options.json)


def _train(path: Path, overrides: dict[str, str], out: Path, as_json: bool) -> int | None:
    from uniperceiver.commands import figures as figures_of
    from uniperceiver.commands import report as report_of
    from uniperceiver.commands.recipe import read_recipe
    from uniperceiver.commands.run import prepare_run
    from uniperceiver.training.stop import EXIT_CODE, Stopped

    recipe = read_recipe(path, overrides)
    try:
        prepare_run(recipe, path.parent, out).train()
    except Stopped:
        print(f"stopped after saving; the same command goes on from there ({out})", file=sys.stderr)
        return EXIT_CODE
    figures = figures_of.evaluate_run(out, splits=("train", "val", "test"), train_limit=recipe.evaluation.train_limit)
    figures_of.write_results(out, figures)
    report = report_of.write_report(out, figures)
    if as_json:
        print_json({"run": str(out), "report": str(report), **figures})
    else:
        figures_of.print_results(figures)
        print(f"model:  {out / 'model'}\nreport: {report}")
    return None


def evaluate(options: argparse.Namespace) -> int | None:
    """Measure a run, or a saved model on other data."""
    from uniperceiver.commands import figures as figures_of
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
