"""Steps that take turns: time of a step with dropped tokens, shares of steps, padding, and what telling them costs.

python -m benchmarks.turns [--quick] [--json FILE]
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import BenchmarkRow, figure, main, ratio
from uniperceiver import Recipe
from uniperceiver.data.mix import BatchMaker, Mixture, Plan
from uniperceiver.parallel.world import World
from uniperceiver.records import Batch
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.strict import parse
from uniperceiver.training.loop import Run
from uniperceiver.training.step import train_step
from uniperceiver.training.turns.figures import TurnFigures
from uniperceiver.training.turns.tokens import of_batch

SHARES = (0.401, 0.401, 0.033, 0.080, 0.033, 0.050)  # of steps in IMP's released code
GOALS = {0.5: 0.62, 0.75: 0.40}
CLIPS = {"format": "scenes", "view": "clip", "label": "motion", "items": 256, "pixels": 32, "frames": 8}
TEXTS = {"format": "scenes", "view": "text", "items": 512}


def measure(pairs: int) -> list[BenchmarkRow]:
    """Dropped tokens against all, shares after 1,000 steps, padding with few lengths, and the time of counting."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [*_dropped(Path(folder), pairs), *_padding(Path(folder))]
        return [*rows, *_shares(Path(folder))]


def _run(folder: Path, name: str, tasks: dict[str, Any], **more: Any) -> Run:
    values = {
        "device": "cpu",
        "model": {"size": "nano", "patch": 8, "patch_frames": 1, "vocabulary": 400},
        "data": {"workers": 0},
        "sampling": {"mode": "unmixed", "tasks_per_step": 1, **more},
        "tasks": tasks,
    }
    return prepare_run(parse(Recipe, values, name), folder, folder / name, quiet=True)


def _clips(drop: float) -> dict[str, Any]:
    return {"kind": "video_classification", "train": CLIPS, "size": 32, "frames": 8, "batch": 32, "drop": drop}


def _dropped(folder: Path, pairs: int) -> Iterator[BenchmarkRow]:
    """Time of a training step on clips of 128 patches, of which some are dropped, over one with all of them."""
    what = f"nano/128 tokens/batch32/threads{torch.get_num_threads()}"
    work, steps = [], {}
    for drop in (0.0, *GOALS):
        run = _run(folder, f"drop {drop}", {"clips": _clips(drop)})
        plan = run.mixture.plans(0, [0])[0]
        batch = BatchMaker(run.mixture)[plan][1]
        assert batch is not None
        work.append((run, plan, batch))
        steps[drop] = partial(_step, run, plan, batch)
    for drop, goal in GOALS.items():
        yield ratio(f"turns/step, drop {drop} over 0/{what}", steps[drop], steps[0.0], goal=goal, pairs=pairs)
    run, plan, batch = work[0]
    shares = []
    for _ in range(pairs):
        began = time.perf_counter()
        steps[0.0]()
        stepped = time.perf_counter()
        _told(run, plan, batch)
        shares.append((time.perf_counter() - stepped) / (stepped - began))
    yield figure(f"turns/counting tokens, of a step/{what}", shares, "of the time", goal=0.003)


def _step(run: Run, plan: Plan, batch: Batch) -> None:
    train_step(run.state, [(plan, batch)], run.objective, run.recipe.optimiser, 1.0)


def _told(run: Run, plan: Plan, batch: Batch) -> None:
    """What is done for every step."""
    candidates = run.objective.candidates(batch, plan).sequences if batch.candidates is None else batch.candidates
    TurnFigures(run.mixture, World()).add(
        [(plan, batch)], [of_batch(batch.inputs, candidates, run.objective.model.tokenizer)]
    )


def _padding(folder: Path) -> Iterator[BenchmarkRow]:
    """The share of the input tokens that are padding, and how many lengths occur, by `sampling.round`."""
    task = {"kind": "masked_language_modelling", "train": TEXTS, "batch": 32, "length": 128}
    for multiple in (1, 8):
        run = _run(folder, f"round {multiple}", {"words": task}, round=multiple)
        counts, lengths = [], set()
        for step in range(40):
            plan = Plan(step=step, place=0, index=0, start=32 * step, count=32, stage=0)
            batch = BatchMaker(run.mixture)[plan][1]
            assert batch is not None
            counts.append(of_batch(batch.inputs, None, run.objective.model.tokenizer))
            lengths.add(batch.inputs.parts[-1].values.shape[1])
        padding = [1 - count.valid / count.encoded for count in counts if count is not None]
        yield figure(f"turns/padding/scenes texts/batch32/round{multiple}", padding, "of the tokens")
        yield figure(f"turns/lengths/scenes texts/batch32/round{multiple}", [len(lengths)], "lengths")


def _shares(folder: Path) -> Iterator[BenchmarkRow]:
    """The largest relative error of a task's share of 1,000 steps, and the longest wait of the rarest."""
    tasks = {f"task{number}": {**_clips(0.0), "weight": weight} for number, weight in enumerate(SHARES)}
    mixture = _run(folder, "shares", tasks).mixture
    for order in ("random", "even"):
        errors, waits = zip(*(_errors(replace(mixture, order=order, seed=seed)) for seed in range(20)), strict=True)
        goal = 0.03 if order == "even" else None
        yield figure(f"turns/largest error of a share, 1000 steps/{order}", errors, "of the share", goal=goal)
        yield figure(f"turns/longest wait of the rarest, 1000 steps/{order}", waits, "steps")


def _errors(mixture: Mixture) -> tuple[float, float]:
    drawn = np.array([mixture.tasks_of(step)[0] for step in range(1000)])
    shares = np.array(SHARES) / sum(SHARES)
    counts = np.bincount(drawn, minlength=len(shares)) / 1000
    rarest = np.flatnonzero(drawn == int(shares.argmin()))
    return float(np.abs(counts / shares - 1).max()), float(np.diff(rarest).max())


if __name__ == "__main__":
    main(measure)
