"""The command that turns many files, or samples of data sets, into vectors."""

import sys
from pathlib import Path
from typing import Annotated

from uniperceiver.cli.launch import Processes
from uniperceiver.cli.options import arg
from uniperceiver.cli.runs import Run, SplitName, StepOfRun, Trust
from uniperceiver.errors import UserError
from uniperceiver.parallel.environment import place_of_process, speaks
from uniperceiver.serving.locate import refuse_nowhere


def embed(
    run: Run,
    *,
    files: Annotated[
        Path | None, arg("a text file with the path of a picture or clip on each line", metavar="LIST")
    ] = None,
    data: Annotated[Path | None, arg("instead: a recipe, whose data are read", metavar="RECIPE.yaml")] = None,
    source: Annotated[str | None, arg("--data: which of its tasks (default: its only one)", metavar="TASK")] = None,
    split: Annotated[SplitName, arg("--data: which of the task's data (default: %(default)s)")] = "train",
    out: Annotated[Path, arg("folder for the vectors, in parts", metavar="DIR")],
    share: Annotated[str, arg("which of how many shares is made: 0/4 (default: all of it)", metavar="K/N")] = "0/1",
    task: Annotated[str | None, arg("a task of the run")] = None,
    step: StepOfRun = None,
    trust: Trust = False,
    device: Annotated[str, arg()] = "cpu",
    processes: Processes = 1,
    ray: Annotated[int | None, arg("instead of processes: actors of a Ray cluster", metavar="ACTORS")] = None,
) -> int | None:
    """Write the vectors of any number of files or samples, in parts; goes on where it was stopped."""
    refuse_nowhere(run)
    from uniperceiver.runs.embedding.job import EmbeddingJob
    from uniperceiver.runs.embedding.ray_actors import embed_with_ray
    from uniperceiver.runs.steps import read_step
    from uniperceiver.serving.predict.embed import embed
    from uniperceiver.waiting import bars

    number, _, shares = share.partition("/")
    if not (number.isdecimal() and shares.isdecimal() and int(shares)):
        raise UserError(f"--share {share}: give a number and how many there are, such as 0/4")
    if (files is None) == (data is None):
        raise UserError("embed: give either --files LIST or --data RECIPE.yaml")
    if ray is not None and (ray < 1 or int(shares) > 1):
        raise UserError(f"--ray {ray}: give 1 actor or more, and no --share: actors share all of it")
    paths = () if files is None else _lines(files)
    job = EmbeddingJob(
        run=run, step=read_step(step), trust=trust, files=paths, data=data, source=source, split=split
    )  # fmt: skip
    place, started, device = place_of_process(device)
    with bars(quiet=not speaks()) as shown:

        def tell(ready: int, total: int) -> None:
            shown.move("embedding", ready, total)

        if ray is not None:
            done = embed_with_ray(job, out, actors=ray, device=device, task=task, on_files=tell)
        else:
            model, mine = job.model(device), (int(number) * started + place, int(shares) * started)
            done = embed(model, job.items(), out, share=mine, task=task, on_files=tell)
    for name, reason in list(done.errors.items())[:10]:
        print(f"left out: {name}: {reason}", file=sys.stderr)
    whose = f" by process {place} of {started}" if started > 1 else ""
    print(f"{out}: {done.made} parts made{whose}, {done.there} were there, {len(done.errors)} files left out")
    return None


def _lines(files: Path) -> tuple[str, ...]:
    try:
        lines = files.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        mend = "give a text file with a path on each line"
        raise UserError(f"--files {files}: cannot be read ({error}); {mend}") from None
    return tuple(line for line in lines if line.strip())
