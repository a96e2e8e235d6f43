"""The command that turns many files into vectors."""

import sys
from pathlib import Path
from typing import Annotated

from uniperceiver.cli.launch import Processes
from uniperceiver.cli.options import arg
from uniperceiver.cli.process import trust_model
from uniperceiver.cli.runs import Run, StepOfRun, Trust
from uniperceiver.errors import UserError
from uniperceiver.parallel.environment import place_of_process, speaks
from uniperceiver.serving.locate import refuse_nowhere


def embed(
    run: Run,
    *,
    files: Annotated[Path, arg("a text file with the path of a picture or clip on each line", metavar="LIST")],
    out: Annotated[Path, arg("folder for the vectors, in parts", metavar="DIR")],
    share: Annotated[str, arg("which of how many shares is made: 0/4 (default: all of it)", metavar="K/N")] = "0/1",
    task: Annotated[str | None, arg("a task of the run")] = None,
    step: StepOfRun = None,
    trust: Trust = False,
    device: Annotated[str, arg()] = "cpu",
    processes: Processes = 1,
) -> int | None:
    """Write the vectors of any number of files, in parts; goes on where it was stopped."""
    refuse_nowhere(run)
    from uniperceiver.runs.steps import load_saved, read_step
    from uniperceiver.serving.predict.embed import embed
    from uniperceiver.serving.predictor import UniPerceiver
    from uniperceiver.waiting import bars

    number, _, shares = share.partition("/")
    if not (number.isdecimal() and shares.isdecimal() and int(shares)):
        raise UserError(f"--share {share}: give a number and how many there are, such as 0/4")
    try:
        lines = files.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"--files {files}: cannot be read ({error}); give a text file with a path on each line"
        ) from None
    if trust:
        trust_model(run)
    place, started, device = place_of_process(device)
    model = UniPerceiver(load_saved(run, read_step(step)), device)
    with bars(quiet=not speaks()) as shown:
        done = embed(
            model,
            [line for line in lines if line.strip()],
            out,
            share=(int(number) * started + place, int(shares) * started),
            task=task,
            on_files=lambda ready, total: shown.move("embedding", ready, total),
        )
    for name, reason in list(done.errors.items())[:10]:
        print(f"left out: {name}: {reason}", file=sys.stderr)
    whose = f" by process {place} of {started}" if started > 1 else ""
    print(f"{out}: {done.made} parts made{whose}, {done.there} were there, {len(done.errors)} files left out")
    return None
