"""Inference of a study's runs over that of its dense one: with their experts, and merged where experts can be.

python -m benchmarks.served DIR [--quick] [--json FILE]; DIR is a study's folder, of which the first seed is taken.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.harness import Row, main, ratio
from uniperceiver import UniPerceiver, load
from uniperceiver.commands.mixture import mixture_of
from uniperceiver.commands.recipe import saved_recipe
from uniperceiver.commands.tasks import open_tasks
from uniperceiver.data.mix import BatchMaker, Plan
from uniperceiver.errors import UserError
from uniperceiver.model.model import Generalist
from uniperceiver.records import Sequences


def measure(pairs: int, place: Path | None) -> list[Row]:
    """One batch of inputs of every task, through the encoder of each arm over that of the dense one, in turns."""
    if place is None:
        raise UserError("name the folder of a study")
    models = dict(_models(place))
    dense = next((name for name, each in models.items() if each.saved.arch.moe is None), None)
    if dense is None:
        raise UserError(f"{place}: none of its arms is a dense model to compare with")
    inputs = _inputs(place / "cells" / dense)
    baseline, rows = _passes(models[dense].model, inputs), []
    for name, one in models.items():
        if name != dense:
            what = f"served/{name} over {dense}/threads{torch.get_num_threads()}"
            rows.append(ratio(f"{what}/experts", _passes(one.model, inputs), baseline, pairs=pairs))
            merged = _merged(one)
            if merged is not None:
                rows.append(ratio(f"{what}/merged", _passes(merged.model, inputs), baseline, pairs=pairs))
    return rows


def _models(place: Path) -> Iterator[tuple[str, UniPerceiver]]:
    """The model of each arm's first seed."""
    for arm in sorted((place / "cells").iterdir()):
        runs = sorted(path for path in arm.glob("seed-*") if (path / "model").is_dir())
        if runs:
            yield arm.name, load(runs[0])


def _merged(model: UniPerceiver) -> UniPerceiver | None:
    """The model without its experts; None where they look at values."""
    try:
        return model.merge()
    except UserError:
        return None


def _inputs(arm: Path) -> list[tuple[Sequences, bool]]:
    """A batch of every task, and whether only its summary is read."""
    run = sorted(arm.glob("seed-*"))[0]
    recipe, base = saved_recipe(run)
    mixture = mixture_of(recipe, open_tasks(recipe, base), load(run).codec)
    maker, found = BatchMaker(mixture), []
    for index, one in enumerate(mixture.sets):
        plan = Plan(step=0, place=index, index=index, start=0, count=one.late.batch, late=True)
        batch = maker[plan][1]
        assert batch is not None, "generated scenes are never broken"
        found.append((batch.inputs, batch.readout.summary))
    return found


def _passes(model: Generalist, inputs: list[tuple[Sequences, bool]]) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            for sequences, summary in inputs:
                model.encode(sequences, summary=summary)

    return run


if __name__ == "__main__":
    main(measure, "DIR")
