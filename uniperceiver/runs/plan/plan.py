"""RECIPE -> PLAN OF A STEP: memory, work and bytes sent of each process, how long that takes at least, and advice."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from uniperceiver.config import Recipe
from uniperceiver.data.mix import Mixture
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.data.vocabulary import text_encoder
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import empty_model
from uniperceiver.optimisation.balance.method import Method
from uniperceiver.own_code import import_code
from uniperceiver.runs.architecture import moe_of
from uniperceiver.runs.checks.recipe import check_processes, check_recipe
from uniperceiver.runs.checks.sizes import check_sizes
from uniperceiver.runs.hearing.statistics import heard_alike
from uniperceiver.runs.initial_weights import architecture_of_run, read_start
from uniperceiver.runs.plan.counts import (
    WRAPS,
    Held,
    ParameterCounts,
    Wrap,
    counts_of,
    held,
    sent,
    sent_for_candidates,
    shards_of,
)
from uniperceiver.runs.plan.devices import Cluster
from uniperceiver.runs.plan.measure import BatchCost, measure
from uniperceiver.runs.prepare import asked_architecture
from uniperceiver.runs.training import autocast_of, method_of, mixture_of
from uniperceiver.runs.tuning import freeze, with_fraction
from uniperceiver.tasks.candidates import TextCodec
from uniperceiver.tasks.task import temperatures_of
from uniperceiver.waiting import announced

_STEPS = 64  # of the run, whose draws of tasks are looked at
_FLOAT = 4  # bytes


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """What a recipe comes to, as far as it is needed to count."""

    recipe: Recipe
    tasks: Sequence[TaskData]
    codec: TextCodec
    arch: Architecture
    mixture: Mixture
    method: Method
    model: nn.Module  # on the meta device

    @property
    def shares(self) -> frozenset[str]:
        """Tasks whose candidates are encoded once for a step."""
        sampled = bool(self.recipe.candidates.sample)
        if self.recipe.candidates.share != "step":
            return frozenset()
        answers = {data.task.name: data.task.answer for data in self.tasks}
        return frozenset(
            name
            for name, answer in answers.items()
            if not answer.among_batch and not (sampled and answer.from_vocabulary)
        )

    @property
    def keeps_step(self) -> frozenset[str]:
        """Tasks of whose batches all graphs of a step are kept at once."""
        if self.method.needs_losses:
            return frozenset(data.task.name for data in self.tasks)
        return frozenset(data.task.name for data in self.tasks if data.config.negatives == "step")


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the slowest process has of a step, over the first steps of the run."""

    flop: float  # mean over steps
    last_backward: float  # of its last batch, behind which a reduction can hide
    idle: float  # share of all processes' time in which they wait for it
    candidates: float  # numbers of representations that are shared in a step, mean


@dataclass(frozen=True, kw_only=True)
class WrapPlan:
    """A way of holding the weights on so many processes."""

    shards: int  # processes that share a copy
    held: Held  # of weights and what belongs to them
    activations: float  # bytes
    sent: float  # bytes of each process in a step
    seconds: float | None  # of a step, at least
    refused: str | None  # why it cannot be

    @property
    def memory(self) -> float:
        """Bytes of a process."""
        return self.held.total + self.activations


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """The plan of a recipe's steps."""

    counts: ParameterCounts
    tasks: Mapping[str, BatchCost]
    shared: tuple[str, ...]  # tasks whose candidates are encoded once for a step
    cluster: Cluster | None
    batches: int  # of a step
    precision: str
    recomputes: bool  # blocks in the backward pass
    load: Load
    wraps: Mapping[Wrap, WrapPlan]
    mfu: float
    bandwidth: float | None  # bytes per second
    peak: float | None  # FLOP per second

    @property
    def size(self) -> int:
        """Processes."""
        return 1 if self.cluster is None else self.cluster.size

    @property
    def fitting(self) -> list[Wrap]:
        """The ways that fit on the devices, the simplest first."""
        if self.cluster is None:
            return []
        memory = self.cluster.device.memory
        return [name for name, wrap in self.wraps.items() if wrap.refused is None and wrap.memory <= memory]


def planned_run(
    recipe: Recipe, base: Path, size: int = 1, *, tasks: list[TaskData] | None = None, quiet: bool = True
) -> PlannedRun:
    """Settle what a new run of the recipe would be, without drawing a weight.

    Args:
        base: where relative paths of the recipe start.
        size: processes.
        tasks: tasks and sources made by a program, instead of those that the recipe names.

    Raises:
        UserError: as `train` for the same recipe and as many processes.
    """
    nowhere = base / ".no run"  # as of a run that is not there yet
    import_code(recipe.imports, base)
    check_processes(recipe, size)
    with announced("opening the data", quiet=quiet):
        tasks = open_tasks(recipe, base) if tasks is None else tasks
    check_recipe(recipe, tasks, moe_of(recipe.model, recipe.moe, len(recipe.tasks)))
    tasks = with_fraction(recipe, tasks)
    start = read_start(recipe, base, nowhere)
    with announced("making the vocabulary from the texts of the data", quiet=quiet):
        codec = text_encoder(recipe, tasks, base) if start is None else start.codec
    arch = architecture_of_run(recipe, tasks, asked_architecture(recipe, tasks, codec), start, nowhere)
    check_sizes(recipe, tasks, arch)
    tasks = heard_alike(tasks, arch)
    model = empty_model(arch, temperatures_of(arch.tokenizers))
    freeze(recipe, model)
    mixture = mixture_of(recipe, tasks, codec, model.tokenizer)
    return PlannedRun(
        recipe=recipe,
        tasks=tasks,
        codec=codec,
        arch=arch,
        mixture=mixture,
        method=method_of(recipe, tasks, mixture),
        model=model,
    )


def plan(
    recipe: Recipe,
    base: Path,
    cluster: Cluster | None = None,
    *,
    mfu: float = 0.4,
    bandwidth: float | None = None,
    quiet: bool = True,
) -> StepPlan:
    """Plan the steps of a recipe: count its parameters, measure a batch of each task, and compute the rest.

    Args:
        base: where relative paths of the recipe start.
        cluster: the devices; None: one process, of which no time is told.
        mfu: share of the devices' products that a step reaches, 0 to 1.
        bandwidth: bytes per second that a process sends; None: as the devices do.

    Raises:
        UserError: as `train` for the same recipe and as many processes.
    """
    if recipe.optimiser.precision == "auto" and cluster is not None:
        recipe = dataclasses.replace(
            recipe,
            optimiser=dataclasses.replace(
                recipe.optimiser, precision="bfloat16" if cluster.device.bfloat16 else "float32"
            ),
        )
    size = 1 if cluster is None else cluster.size
    run = planned_run(recipe, base, size, quiet=quiet)
    counts = counts_of(run.model, moments_of(run), averages=bool(recipe.optimiser.ema))
    with announced("measuring a batch of each task", quiet=quiet):
        costs = measure(recipe, run.tasks, run.codec, run.arch, run.mixture)
    precision = str(autocast_of(recipe) or "float32").removeprefix("torch.")
    peak = None if cluster is None else cluster.device.peak(precision)
    speed = bandwidth if cluster is None or bandwidth is not None else cluster.bandwidth
    load = load_of(run, costs, size)
    per_machine = size if cluster is None else cluster.per_machine
    wraps = {
        name: _wrap_plan(run, counts, costs, load, name, size, per_machine, peak and mfu * peak, speed)
        for name in WRAPS
        if name == "ddp" or (shards_of(name, size, per_machine) > 1 and (name == "fsdp" or per_machine < size))
    }
    return StepPlan(
        counts=counts,
        tasks=costs,
        shared=tuple(name for name in costs if name in run.shares),
        cluster=cluster,
        batches=run.mixture.batches_per_step,
        precision=precision,
        recomputes=recipe.optimiser.recompute,
        load=load,
        wraps=wraps,
        mfu=mfu,
        bandwidth=speed,
        peak=peak,
    )


def moments_of(run: PlannedRun) -> int:
    """Numbers that the optimiser keeps once every parameter was used: two for each, one where Muon updates it.

    A method that combines gradients in an optimiser of its own has them for each task.
    """
    optimiser = run.method.optimiser(run.model, run.recipe.optimiser)
    own = type(run.method).optimiser is not Method.optimiser and run.method.needs_gradients
    numbers = 0
    for group in optimiser.param_groups:
        per_parameter = 1 if group.get("orthogonal") else 2
        numbers += per_parameter * sum(parameter.numel() for parameter in group["params"])
    return numbers * (len(run.tasks) if own else 1)


def load_of(run: PlannedRun, costs: Mapping[str, BatchCost], size: int) -> Load:
    """What the slowest of so many processes computes in a step, over the draws of the run's first steps."""
    names = [tasks.task.name for tasks in run.mixture.sets]
    slowest, backward, work, shared_numbers = 0.0, 0.0, 0.0, 0.0
    for step in range(_STEPS):
        plans = run.mixture.plans(step, [0] * len(names))
        loads, last = [0.0] * size, [0.0] * size
        for batch, rank in zip(plans, run.mixture.ranks(plans, size), strict=True):
            cost = costs[names[batch.index]]
            last[rank] = cost.inputs.flop
            if names[batch.index] not in run.shares:
                last[rank] += cost.encoding.flop
            loads[rank] += last[rank]
        shared = {names[batch.index] for batch in plans} & run.shares
        loads = [own + sum(costs[name].encoding.flop for name in shared) / size for own in loads]
        slowest += max(loads) / _STEPS
        backward += max(last) * 2 / 3 / _STEPS
        work += sum(loads) / _STEPS
        shared_numbers += sum(costs[name].candidates for name in shared) * run.arch.width / _STEPS
    idle = 1.0 - work / (size * slowest) if slowest else 0.0
    return Load(flop=slowest, last_backward=backward, idle=idle, candidates=shared_numbers)


def activations_of(run: PlannedRun, costs: Mapping[str, BatchCost], size: int) -> float:
    """Bytes that a process keeps between the passes at the worst moment: those of the task that needs most.

    Batches follow each other, so they do not add up, but where a step keeps all of its graphs.
    """
    batches = -(-run.mixture.batches_per_step // size)
    worst = 0.0
    for name, cost in costs.items():
        kept, extra = cost.saved, cost.extra
        if name in run.shares:  # whose candidates have a backward pass of their own
            kept, extra = cost.inputs.saved, max(cost.inputs.extra, cost.encoding.extra)
        worst = max(worst, kept * (batches if name in run.keeps_step else 1) + extra)
    # Of shared candidates a process keeps its own part, and all representations with their gradients.
    parts = sorted(
        (
            costs[name].encoding.saved / size + 2 * _FLOAT * costs[name].candidates * run.arch.width
            for name in run.shares
        ),
        reverse=True,
    )
    return worst + sum(parts[: run.mixture.draws])


def _wrap_plan(
    run: PlannedRun,
    counts: ParameterCounts,
    costs: Mapping[str, BatchCost],
    load: Load,
    wrap: Wrap,
    size: int,
    per_machine: int,
    speed: float | None,
    bandwidth: float | None,
) -> WrapPlan:
    shards = shards_of(wrap, size, per_machine)
    batches, by_task = -(-run.mixture.batches_per_step // size), run.method.needs_gradients
    tasks = min(run.mixture.draws, len(run.tasks))
    refused = None
    if shards > 1 and by_task:
        refused = f"balance.method={run.recipe.balance.method} combines gradients, which no process has whole"
    elif shards > 1 and run.mixture.batches_per_step % size:
        refused = f"{run.mixture.batches_per_step} batches are no multiple of {size} processes"
    bytes_sent = sent(counts, wrap, size, per_machine, batches, tasks if by_task else 1)
    bytes_sent += sent_for_candidates(1, round(load.candidates), size)
    seconds = None
    if speed and (bandwidth or size == 1):
        compute, sending = load.flop / speed, bytes_sent / bandwidth if bandwidth else 0.0
        by_hand = by_task or run.method.needs_losses or bool(run.shares or run.keeps_step)
        hidden = compute if shards > 1 else 0.0 if by_hand else load.last_backward / speed
        seconds = compute + max(0.0, sending - hidden)
    return WrapPlan(
        shards=shards,
        held=held(counts, shards, tasks if by_task else 0),
        activations=activations_of(run, costs, size),
        sent=bytes_sent,
        seconds=seconds,
        refused=refused,
    )
