"""Commands that ask, describe and change trained models."""

import argparse
from pathlib import Path

from uniperceiver.cli.output import print_json


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
        print_json(answers)
    else:
        print("\n".join(as_text(answers)))
    return None


def info(options: argparse.Namespace) -> int | None:
    """Describe a run or saved model; without one, the tasks of the catalogue and the formats of data."""
    from uniperceiver.commands import info as describe

    facts = describe.model_info(Path(options.run)) if options.run else describe.library_info()
    if options.json:
        print_json(facts)
    else:
        print("\n".join(describe.as_text(facts)))
    return None
