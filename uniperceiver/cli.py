"""The command line: one function per command."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from uniperceiver import __version__
from uniperceiver.errors import UserError

# Threads that spin while they wait cost more than they save where several processes share the cores.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

_DEMO = Path(__file__).parent / "recipes" / "demo.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit code 0: done; 2: something the user can mend; 75: stopped by a signal after saving."""
    options = _parse(arguments)
    command: Callable[[argparse.Namespace], int | None] = options.command
    try:
        return command(options) or 0
    except UserError as error:
        print(f"uniperceiver: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("uniperceiver: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


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
        _print_json({"run": str(out), "report": str(report), **figures})
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


def predict(options: argparse.Namespace) -> int | None:
    """Ask a model about files."""
    from uniperceiver.commands.predict import answer, as_text

    answers = answer(
        Path(options.run),
        options.question,
        options.files,
        labels=options.labels,
        texts=options.texts,
        task=options.task,
        beam=options.beam,
        device=options.device,
    )
    if options.json:
        _print_json(answers)
    else:
        print("\n".join(as_text(answers)))
    return None


def info(options: argparse.Namespace) -> int | None:
    """Describe a run or saved model; without one, the tasks of the catalogue and the formats of data."""
    from uniperceiver.commands import info as describe

    facts = describe.model_info(Path(options.run)) if options.run else describe.library_info()
    if options.json:
        _print_json(facts)
    else:
        print("\n".join(describe.as_text(facts)))
    return None


def _print_json(values: Any) -> None:
    from uniperceiver.strict import to_json

    print(to_json(values, indent=1))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options, where key=value may stand before and behind the flags."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest:
        if not hasattr(options, "overrides") or any("=" not in each or each.startswith("-") for each in rest):
            parser.error(f"unknown argument {rest[0]!r}; see uniperceiver {options.command.__name__} --help")
        options.overrides += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uniperceiver", description="One Transformer for many perception tasks, without task heads."
    )
    parser.add_argument("--version", action="version", version=f"uniperceiver {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    one = _command(commands, "demo", demo, "train, evaluate and ask a small model on generated scenes")
    one.add_argument("overrides", nargs="*", metavar="key=value", help="a key of the demo's recipe, e.g. steps=300")
    one.add_argument("--out", default="runs/demo", help="folder of the run (default: %(default)s)")
    one.add_argument("--json", action="store_true", help="print the results as JSON")

    one = _command(commands, "train", train, "train a recipe; goes on with the run if its folder exists")
    one.add_argument("recipe", metavar="RECIPE.yaml")
    one.add_argument("overrides", nargs="*", metavar="key=value", help="a key of the recipe, e.g. optimiser.lr=3e-4")
    one.add_argument("--out", required=True, metavar="RUN", help="folder of the run")
    one.add_argument("--json", action="store_true", help="print the results as JSON")
    _add_questions(commands)
    return parser


def _add_questions(commands: Any) -> None:
    """The commands that ask a trained model."""
    one = _command(commands, "evaluate", evaluate, "measure a run or a saved model")
    one.add_argument("run", metavar="RUN")
    one.add_argument("--task", help="only this task")
    one.add_argument("--split", action="append", choices=["train", "val", "test"], help="default: val and test")
    one.add_argument("--data", metavar="RECIPE.yaml", help="evaluate on the data of this recipe instead of the run's")
    one.add_argument("--device", help="cpu, cuda, ... (default: as the recipe says)")
    one.add_argument("--json", metavar="FILE", help="write the results to a file")

    one = _command(commands, "predict", predict, "ask a model about files")
    one.add_argument("run", metavar="RUN")
    one.add_argument("question", choices=["classify", "caption", "rank"])
    one.add_argument("--labels", nargs="+", metavar="TEXT", help="classify: the candidates (default: the task's)")
    one.add_argument("--texts", nargs="+", metavar="TEXT", help="rank: the texts to compare with")
    one.add_argument("--task", help="a task of the run")
    one.add_argument("--beam", type=int, default=2, help="caption: number of beams (default: %(default)s)")
    one.add_argument("--device", default="cpu")
    one.add_argument("--json", action="store_true", help="print the answers as JSON")
    one.add_argument("files", nargs="+", metavar="FILE", help="images or clips, after --")

    one = _command(commands, "info", info, "describe a run or saved model, or what recipes can name")
    one.add_argument("run", nargs="?", metavar="RUN")
    one.add_argument("--json", action="store_true", help="print as JSON")


def _command(commands: Any, name: str, function: Callable[..., Any], summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(command=function)
    return parser


if __name__ == "__main__":
    sys.exit(main())
