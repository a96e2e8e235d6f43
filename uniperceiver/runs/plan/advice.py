"""PLAN -> SENTENCES: whether it fits, what to change first, and what was assumed."""

from collections.abc import Iterator

from uniperceiver.runs.plan.devices import amount
from uniperceiver.runs.plan.plan import StepPlan

_MANY = 0.5  # share of a task's tokens from which its candidates are worth sharing
_MUCH_IDLE = 0.15  # of the processes' time
_LITTLE = 0.25  # share of a device's memory that leaves room for larger batches


def misfit(plan: StepPlan) -> str | None:
    """Why the plan does not fit on its devices, in one line with numbers; None: it does, or none were named."""
    cluster = plan.cluster
    if cluster is None or plan.fitting:
        return None
    needs = ", ".join(
        f"{wrap} {amount(way.held.total)} + {amount(way.activations)}"
        for wrap, way in plan.wraps.items()
        if way.refused is None
    )
    kept = {name: cost.inputs.saved if name in plan.shared else cost.saved for name, cost in plan.tasks.items()}
    worst = max(kept, key=kept.__getitem__)
    smaller = " or ".join(_smaller(plan, worst))
    return (
        f"does not fit on {cluster.size} {cluster.name} of {amount(cluster.device.memory)}: weights and what belongs "
        f"to them + activations are {needs}; {smaller}"
    )


def advice(plan: StepPlan) -> list[str]:
    """What follows from the plan, what matters most first."""
    return [*_fit(plan), *_candidates(plan), *_balance(plan), *_speed(plan)]


def assumptions(plan: StepPlan) -> list[str]:
    """What the figures rest on."""
    lines = [
        "counts are exact; activations and FLOP were measured on this machine's CPU with a first batch of each task: "
        "kernels of other devices keep less or more",
        "every parameter is used: moments of experts that nobody chooses are never made",
        "not counted: buffers of libraries and of the allocator, gradients on their way through a block, evaluation",
    ]
    if plan.cluster is not None and plan.peak is not None:
        device, bandwidth = plan.cluster, amount(plan.bandwidth or 0.0)
        lines.append(
            f"time: {plan.mfu:.0%} (--mfu) of {plan.peak / 1e12:.0f} TFLOP/s in {plan.precision} of a {device.name}, "
            f"and {bandwidth}/s (--bandwidth) from each process: a lower bound, without reading data and updating "
            "weights"
        )
    return lines


def _fit(plan: StepPlan) -> Iterator[str]:
    cluster = plan.cluster
    if cluster is None:
        return
    for wrap in plan.fitting[:1]:
        way, memory = plan.wraps[wrap], cluster.device.memory
        yield (
            f"{wrap} fits: {amount(way.held.total)} + {amount(way.activations)} of {amount(memory)}"
            + ("" if way.memory > _LITTLE * memory else "; larger batches would, too")
        )


def _smaller(plan: StepPlan, worst: str) -> Iterator[str]:
    """What would need less memory, for the task that needs most."""
    cost = plan.tasks[worst]
    if cost.encoding.saved > cost.inputs.saved and worst not in plan.shared:
        yield "set candidates.share=step"
    if not plan.recomputes:
        yield "set optimiser.recompute=true"
    yield f"set a smaller tasks.{worst}.batch than {cost.samples}"


def _candidates(plan: StepPlan) -> Iterator[str]:
    for name, cost in plan.tasks.items():
        tokens = cost.encoding.tokens / max(cost.inputs.tokens + cost.encoding.tokens, 1.0)
        if name not in plan.shared and cost.candidates > cost.samples and tokens > _MANY and plan.batches > 1:
            yield f"candidates are {tokens:.0%} of the tokens of {name}: set candidates.share=step"


def _balance(plan: StepPlan) -> Iterator[str]:
    if plan.size > 1 and plan.load.idle > _MUCH_IDLE:
        yield (
            f"with {plan.batches} batches for {plan.size} processes, these wait {plan.load.idle:.0%} of their time for "
            "the slowest: twice as many (sampling.tasks_per_step) serve them better"
        )


def _speed(plan: StepPlan) -> Iterator[str]:
    cluster = plan.cluster
    if cluster is None:
        return
    if plan.precision == "float32":
        faster = cluster.device.half / cluster.device.single
        name = "bfloat16" if cluster.device.bfloat16 else "float16"
        yield f"float32: products in 16 bits are {faster:.0f} times as fast; set optimiser.precision={name}"
    ways = [plan.wraps[name] for name in plan.fitting]
    compute = plan.load.flop / (plan.mfu * (plan.peak or 1.0))
    if ways and ways[0].seconds is not None and ways[0].seconds > 1.5 * compute:
        yield (
            f"sending takes {1 - compute / ways[0].seconds:.0%} of a step: more batches for each process "
            "(sampling.tasks_per_step) send no more with ddp"
        )
