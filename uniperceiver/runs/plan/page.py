"""PLAN -> TEXT AND JSON."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from uniperceiver.runs.plan.advice import advice, assumptions, misfit
from uniperceiver.runs.plan.devices import amount
from uniperceiver.runs.plan.plan import StepPlan


def as_json(plan: StepPlan) -> dict[str, Any]:
    """The plan as plain values; bytes, FLOP and seconds without prefixes."""
    values = dataclasses.asdict(plan)
    for name, wrap in plan.wraps.items():
        values["wraps"][name] |= {"memory": wrap.memory, "fits": name in plan.fitting if plan.cluster else None}
    return {**values, "advice": advice(plan), "assumptions": assumptions(plan), "misfit": misfit(plan)}


def as_text(plan: StepPlan) -> list[str]:
    """The plan as lines for people."""
    sentences = [*map("- {}".format, advice(plan)), "assumed:", *map("- {}".format, assumptions(plan))]
    return [*_counts(plan), "", *_tasks(plan), "", *_wraps(plan), "", *sentences]


def _counts(plan: StepPlan) -> Iterator[str]:
    counts = plan.counts
    yield f"parameters  {counts.parameters:,}, trained {counts.trained:,}"
    for part, size in sorted(counts.by_part.items(), key=lambda item: -item[1]):
        yield f"  {part:<24}{size:>16,}"


def _tasks(plan: StepPlan) -> Iterator[str]:
    yield f"a batch of each task, in {plan.precision}"
    yield _row("task", "samples", "tokens", "kept", "candidates", "tokens", "kept", "work")
    for name, cost in plan.tasks.items():
        inputs, encoding = cost.inputs, cost.encoding
        yield _row(
            name,
            f"{cost.samples:,}",
            f"{inputs.tokens:,.0f}",
            amount(inputs.saved),
            f"{cost.candidates:,}{'*' if name in plan.shared else ''}",
            f"{encoding.tokens:,.0f}",
            amount(encoding.saved),
            amount(inputs.flop + encoding.flop, "FLOP"),
        )
    if plan.shared:
        yield "* encoded once for a step, by all processes together"


def _row(name: str, *cells: str) -> str:
    return f"  {name:<24}" + "".join(f"{cell:>12}" for cell in cells)


def _wraps(plan: StepPlan) -> Iterator[str]:
    where = "one process" if plan.size == 1 else f"each of {plan.size} processes"
    yield f"{where}, {plan.batches} batches in a step: memory, and what a step sends and takes at least"
    yield _row("", "weights", "gradients", "moments", "average", "others", "activations", "sum", "sent", "time")
    for name, wrap in plan.wraps.items():
        held = wrap.held
        numbers = (held.weights, held.gradients, held.moments, held.average, held.gathered + held.by_task)
        cells = [amount(number) for number in (*numbers, wrap.activations, wrap.memory, wrap.sent)]
        yield _row(name, *cells, "" if wrap.seconds is None else f"{wrap.seconds * 1e3:.3g} ms") + (
            f"  refused: {wrap.refused}" if wrap.refused else ""
        )
