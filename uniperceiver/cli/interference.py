"""The command that measures interference."""

import argparse
from pathlib import Path

from uniperceiver.cli.process import settle_for_run
from uniperceiver.errors import UserError


def add_interference(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--task", nargs="+", action="extend", metavar="NAME", help="tasks to compare (default: all)")
    parser.add_argument("--batches", type=int, help="batches of each task (default: 100, or as many as there are)")
    parser.add_argument("--batch", type=int, metavar="SAMPLES", help="samples of a batch (default: as in training)")
    parser.add_argument(
        "--parameters",
        metavar="PATTERN",
        help="a parameter's name or the beginning of one, * for any part (default: every second FFN matrix)",
    )
    parser.add_argument("--step", type=int, help="measure the checkpoint of this step (default: the run's model)")
    parser.add_argument("--split", choices=["train", "val", "test"], default="train", help="default: %(default)s")
    parser.add_argument("--data", metavar="RECIPE.yaml", help="use the data of this recipe instead of the run's")
    parser.add_argument("--finite-differences", action="store_true", help="take the steps, in float64; slow")
    parser.add_argument("--device", help="cpu, cuda, ... (default: as the recipe says)")
    parser.add_argument("--json", metavar="FILE", help="write the matrices to a file")


def interference(options: argparse.Namespace) -> int | None:
    """Measure which task of a run helps or hurts which."""
    from rich.console import Console
    from rich.progress import Progress

    from uniperceiver.config import InterferenceConfig
    from uniperceiver.interference.records import as_values
    from uniperceiver.runs import interference as lab
    from uniperceiver.runs.interference_table import keep_in_run, print_interference
    from uniperceiver.strict import to_json

    if options.json and not Path(options.json).parent.is_dir():
        raise UserError(f"--json: there is no folder {Path(options.json).parent}; make it first")
    if options.json and Path(options.json).is_dir():
        raise UserError(f"--json: {options.json} is a folder; name a file in it")
    if options.batch is not None and options.batch < 1:
        raise UserError(f"--batch: {options.batch} is no number of samples; give 1 or more")
    run, data = Path(options.run), options.data and Path(options.data)
    settle_for_run(run, data)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("measuring", total=None)
        question = lab.Question(
            parameters=options.parameters or InterferenceConfig().parameters,
            batches=options.batches,
            batch=options.batch,
            tasks=tuple(options.task or ()),
            step=options.step,
            split=options.split,
            by_steps=options.finite_differences,
            device=options.device,
            on_batch=lambda done, total: progress.update(bar, completed=done, total=total),
        )
        measured = lab.interference_of_run(run, question, data)
    if options.json:
        Path(options.json).write_text(to_json(as_values(measured), indent=1) + "\n", encoding="utf-8")
    print_interference(measured)
    if (run / "recipe.yaml").is_file():
        for path in keep_in_run(run, measured):
            print(path)
    return None
