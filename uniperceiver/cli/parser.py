"""The options of the commands."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from uniperceiver import __version__
from uniperceiver.cli import data, models, originals, runs, study
from uniperceiver.cli import interference as lab


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options, where key=value may stand before and behind the flags."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest:
        if not hasattr(options, "overrides") or any("=" not in each or each.startswith("-") for each in rest):
            name = options.command.__name__.replace("_", " ")
            parser.error(f"unknown argument {rest[0]!r}; see uniperceiver {name} --help")
        options.overrides += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uniperceiver", description="One Transformer for many perception tasks, without task heads."
    )
    parser.add_argument("--version", action="version", version=f"uniperceiver {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    one = _command(commands, "demo", runs.demo, "train, evaluate and ask a small model on generated scenes")
    one.add_argument("overrides", nargs="*", metavar="key=value", help="a key of the demo's recipe, e.g. steps=300")
    one.add_argument("--out", default="runs/demo", help="folder of the run (default: %(default)s)")
    one.add_argument("--json", action="store_true", help="print the results as JSON")

    one = _command(commands, "train", runs.train, "train a recipe; goes on with the run if its folder exists")
    one.add_argument("recipe", metavar="RECIPE.yaml")
    one.add_argument("overrides", nargs="*", metavar="key=value", help="a key of the recipe, e.g. optimiser.lr=3e-4")
    one.add_argument("--out", required=True, metavar="RUN", help="folder of the run")
    one.add_argument("--json", action="store_true", help="print the results as JSON")

    one = _command(commands, "tune", runs.tune, "adapt a finished model to your own data: all weights, or prompts")
    one.add_argument("model", metavar="MODEL", help="a run, a saved or converted model, or OWNER/NAME on the hub")
    one.add_argument("data", metavar="DATA", help="a recipe, or a folder of pictures or clips: CLASS/FILE")
    one.add_argument("overrides", nargs="*", metavar="key=value", help="a key of the recipe, e.g. optimiser.lr=3e-4")
    one.add_argument("--out", required=True, metavar="RUN", help="folder of the run")
    one.add_argument("--method", choices=["prompt", "full"], help="default: as the recipe says, or else prompt")
    one.add_argument("--fraction", metavar="SHARE", help="share of the training set to use, such as 0.01")
    one.add_argument("--json", action="store_true", help="print the results as JSON")
    study.add_study(_command(commands, "study", study.study, "train a recipe in several ways, and compare the runs"))
    _add_questions(commands)
    _add_experts(commands)
    summary = "check the data of a recipe, or prepare them for fast reading"
    data.add_data(commands.add_parser("data", help=summary, description=summary))
    return parser


def _add_questions(commands: Any) -> None:
    """The commands that ask a trained model."""
    one = _command(commands, "evaluate", runs.evaluate, "measure a run or a saved model")
    one.add_argument("run", metavar="RUN")
    one.add_argument("--task", help="only this task")
    one.add_argument("--split", action="append", choices=["train", "val", "test"], help="default: val and test")
    one.add_argument("--data", metavar="RECIPE.yaml", help="evaluate on the data of this recipe instead of the run's")
    one.add_argument("--device", help="cpu, cuda, ... (default: as the recipe says)")
    one.add_argument("--json", metavar="FILE", help="write the results to a file")

    one = _command(commands, "predict", models.predict, "ask a model about files")
    one.add_argument("run", metavar="RUN")
    one.add_argument("question", choices=["classify", "caption", "rank"])
    one.add_argument("--labels", nargs="+", metavar="TEXT", help="classify: the candidates (default: the task's)")
    one.add_argument(
        "--question", dest="asked", metavar="TEXT", help="classify: the text that is read beside each file"
    )
    one.add_argument("--texts", nargs="+", metavar="TEXT", help="rank: the texts to compare with")
    one.add_argument("--task", help="a task of the run")
    one.add_argument("--beam", type=int, default=2, help="caption: number of beams (default: %(default)s)")
    one.add_argument("--device", default="cpu")
    one.add_argument("--json", action="store_true", help="print the answers as JSON")
    one.add_argument("files", nargs="+", metavar="FILE", help="images or clips, after --")

    one = _command(commands, "convert", originals.convert, "turn a checkpoint of the original release into a model")
    originals.add_convert(one)

    one = _command(commands, "merge", models.merge, "fold experts into plain weights: the same answers, served densely")
    one.add_argument("run", metavar="RUN")
    one.add_argument("--out", required=True, metavar="DIR", help="folder of the merged model")
    one.add_argument("--task", nargs="+", action="extend", metavar="NAME", help="tasks to merge for (default: all)")
    one.add_argument("--json", action="store_true", help="print rows and sizes as JSON")

    one = _command(commands, "info", models.info, "describe a run or saved model, or what recipes can name")
    one.add_argument("run", nargs="?", metavar="RUN")
    one.add_argument("--json", action="store_true", help="print as JSON")


def _add_experts(commands: Any) -> None:
    """The commands that look at routing, and at what tasks do to each other."""
    one = _command(
        commands, "interference", lab.interference, "measure which task of a run helps or hurts which, by gradients"
    )
    lab.add_interference(one)

    one = _command(commands, "experts", models.experts, "show which experts the tokens of a run's tasks go to")
    one.add_argument("run", metavar="RUN")
    one.add_argument("--task", help="only this task")
    one.add_argument("--split", choices=["train", "val", "test"], help="default: val, or else test or train")
    one.add_argument("--limit", type=int, default=256, help="samples of each task; 0: all (default: %(default)s)")
    one.add_argument("--device", help="cpu, cuda, ... (default: as the recipe says)")
    one.add_argument("--picture", metavar="FILE.html", help="also write the report's picture to a file")
    one.add_argument("--json", action="store_true", help="print as JSON")


def _command(commands: Any, name: str, function: Callable[..., Any], summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(command=function)
    return parser
