"""A step of a task with 2,000 names: candidates that are encoded once for a step against once for each batch, on one
process and on two; and what the two send, against the formula of `uniperceiver plan`.

python -m benchmarks.processes [--quick] [--json FILE]
"""

import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.queues import Queue
from pathlib import Path

import torch
from torch import distributed

from benchmarks.harness import QUICK_PAIRS, BenchmarkRow, figure, main
from uniperceiver import ModelConfig, OptimiserConfig, Recipe, SamplingConfig, TaskConfig
from uniperceiver.config import CandidateConfig, DataConfig, EvaluationConfig, LogConfig
from uniperceiver.data.mix import BatchMaker
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.parallel.start import joined
from uniperceiver.parallel.world import World
from uniperceiver.runs.plan.counts import counts_of, sent, sent_for_candidates
from uniperceiver.runs.plan.plan import moments_of, planned_run
from uniperceiver.runs.plan.simulate import simulated
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training.processes.team import PlaceOfStep, TeamOfProcesses, team_of
from uniperceiver.training.step import train_step

NAMES, BATCHES = 2000, 4
SHARES = ("batch", "step")


def measure(pairs: int) -> list[BenchmarkRow]:
    """Time of a step with shared candidates over that with candidates of each batch."""
    steps = 2 if pairs <= QUICK_PAIRS else 12
    rows = []
    for size in (1, 2):
        by_share = {share: _seconds_of(size, share, steps) for share in SHARES}
        ratios = [mine / other for mine, other in zip(by_share["step"], by_share["batch"], strict=True)]
        what = f"{NAMES} names/{BATCHES} batches of 8/processes{size}"
        rows.append(figure(f"processes/step time, shared over batch/{what}", ratios, "ratio", goal=0.7))
        for share, seconds in by_share.items():
            rows.append(figure(f"processes/CPU time of a step, {share}/{what}", seconds, "s"))
    for share in SHARES:
        what = f"{share}/{NAMES} names/{BATCHES} batches of 8/processes2"
        rows.append(figure(f"processes/bytes sent in a step, counted over formula/{what}", [_sent(share)], "ratio"))
    return rows


def _sent(share: str) -> float:
    """Bytes that one of two processes sends in a step, as the tensors of its collectives say, over the formula's."""
    size, recipe = 2, _recipe(share)
    data = _names_of(recipe)
    run = planned_run(recipe, Path(), size, tasks=[data])
    counts = counts_of(run.model, moments_of(run), averages=False)
    counted = simulated(recipe, Path(), size, tasks=[data]).bytes["allreduce"]
    formula = sent(counts, "ddp", size, size, BATCHES // size)
    if share == "step":
        formula += sent_for_candidates(NAMES, run.arch.width, size)
    return 2 * (size - 1) / size * counted / formula  # a ring sends each tensor twice, but for its own part


def _seconds_of(size: int, share: str, steps: int) -> list[float]:
    """CPU seconds of each step, of the process that takes longest."""
    if size == 1:
        return _steps(World(), share, steps)
    context = multiprocessing.get_context("fork")
    results: Queue[list[float]] = context.Queue()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    common = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    workers = [
        context.Process(target=_in_process, args=({**common, "RANK": rank, "LOCAL_RANK": rank}, share, steps, results))
        for rank in range(size)
    ]
    for worker in workers:
        worker.start()
    seconds = [results.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    return [max(step) for step in zip(*seconds, strict=True)]


def _in_process(environment: Mapping[str, object], share: str, steps: int, results: "Queue[list[float]]") -> None:
    os.environ.update({name: str(value) for name, value in environment.items()})
    with joined(timeout=600, accelerated=False) as world:
        results.put(_steps(world, share, steps))
        distributed.barrier()


def _recipe(share: str) -> Recipe:
    scenes = {"format": "scenes", "items": 64, "pixels": 32, "label": "colour"}
    return Recipe(
        device="cpu",
        model=ModelConfig(width=48, layers=1, heads=2, vocabulary=300),
        sampling=SamplingConfig(tasks_per_step=BATCHES),
        optimiser=OptimiserConfig(warmup=0),
        candidates=CandidateConfig(share=share),  # type: ignore[arg-type]
        data=DataConfig(workers=0),
        evaluation=EvaluationConfig(every=0),
        log=LogConfig(tensorboard=False),
        tasks={"names": TaskConfig(kind="image_classification", size=32, batch=8, train=scenes)},
    )


def _names_of(recipe: Recipe) -> TaskData:
    """The recipe's task, with many names."""
    (data,) = open_tasks(recipe, Path())
    labels = tuple((f"thing number {number}",) for number in range(NAMES))
    return replace(data, task=replace(data.task, labels=labels))


def _steps(world: World, share: str, steps: int) -> list[float]:
    """CPU seconds of this process for each step, after one to warm up."""
    recipe = _recipe(share)
    data = _names_of(recipe)
    with tempfile.TemporaryDirectory() as folder:
        run = prepare_run(recipe, Path(), Path(folder) / "run", tasks=[data], quiet=True, world=world)
        team = team_of(world, run.objective, run.state.method, recipe)
        maker, seconds = BatchMaker(run.mixture), []
        for step in range(1 + steps):
            plans = run.mixture.plans(step, [8 * BATCHES * step])
            ranks = run.mixture.ranks(plans, world.size)
            mine = [(plan, batch) for plan, batch, _ in map(maker.__getitem__, plans) if batch is not None]
            if isinstance(team, TeamOfProcesses):
                places = [PlaceOfStep(place=p.place, index=0, task="names", answers=8, rank=r)
                          for p, r in zip(plans, ranks, strict=True)]  # fmt: skip
                team.begin(step, places)
            work = [item for item, rank in zip(mine, ranks, strict=True) if rank == world.rank]
            begun = time.process_time()
            train_step(run.state, work, run.objective, recipe.optimiser, 1 / BATCHES, team=team)
            seconds.append(time.process_time() - begun)
    return seconds[1:]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(measure)
