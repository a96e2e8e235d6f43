"""Commands that ask, describe and change trained models."""

import argparse
import dataclasses
from pathlib import Path

from uniperceiver.cli.output import print_json
from uniperceiver.cli.process import settle_for_run
from uniperceiver.errors import UserError


def predict(options: argparse.Namespace) -> int | None:
    """Ask a model about files."""
    from uniperceiver.serving.predict import answer, as_text

    answers = answer(
        Path(options.run),
        options.question,
        options.files,
        labels=options.labels,
        texts=options.texts,
        asked=options.asked,
        task=options.task,
        beam=options.beam,
        device=options.device,
    )
    if options.json:
        print_json(answers)
    else:
        print("\n".join(as_text(answers)))
    return None


def merge(options: argparse.Namespace) -> int | None:
    """Fold a model's experts into plain weights, so that it serves at the cost of a dense model."""
    from uniperceiver.serving.merge_run import as_text, merge_run

    report = merge_run(Path(options.run), Path(options.out), options.task)
    if options.json:
        print_json(report)
    else:
        print("\n".join(as_text(report)))
    return None


def experts(options: argparse.Namespace) -> int | None:
    """Show what the gates of a run decide on its data."""
    from uniperceiver.runs import experts as commands

    if options.limit < 0:
        raise UserError(f"--limit: {options.limit} is no number of samples; give 1 or more, or 0 for all")
    if options.picture and not Path(options.picture).parent.is_dir():
        raise UserError(f"--picture: there is no folder {Path(options.picture).parent}; make it first")
    run = Path(options.run)
    settle_for_run(run)
    found = commands.experts_of_run(
        run, task=options.task, split=options.split, limit=options.limit, device=options.device
    )
    if options.picture:
        commands.write_picture(found, run, Path(options.picture))
    if options.json:
        print_json(dataclasses.asdict(found))
    else:
        commands.print_experts(found)
    return None


def info(options: argparse.Namespace) -> int | None:
    """Describe a run or saved model; without one, the tasks of the catalogue and the formats of data."""
    from uniperceiver.serving import info as describe

    facts = describe.model_info(Path(options.run)) if options.run else describe.library_info()
    if options.json:
        print_json(facts)
    else:
        print("\n".join(describe.as_text(facts)))
    return None
