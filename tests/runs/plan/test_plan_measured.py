"""What a batch keeps and computes: as torch's own trackers count it in a step, however much of it was measured."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.flop_counter import FlopCounterMode

from tests.small_run import small_recipe
from tests.tuned import tuning
from uniperceiver import Recipe, UserError, train
from uniperceiver.data.mix import BatchMaker, Plan
from uniperceiver.runs.plan import measure as measuring
from uniperceiver.runs.plan.counts import counts_of, held
from uniperceiver.runs.plan.measure import BatchCost, PassCost, measure, objective_on_cpu
from uniperceiver.runs.plan.plan import PlannedRun, moments_of, planned_run
from uniperceiver.runs.plan.rows import first_rows
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.runs.training import state_of

MODEL = {"model__width": 64, "model__layers": 4, "model__heads": 4, "model__drop_path": 0.0}
ATTRIBUTE = {"moe__condition": "attribute", "moe__experts": 4, "moe__k": 2, "moe__layers": 2}
TOKEN = {**ATTRIBUTE, "moe__condition": "token"}


def recipe(**changes: object) -> Recipe:
    tasks = ("colours", "captions")
    sizes = {f"tasks__{name}__batch": 12 for name in tasks}
    return small_recipe(tasks, **{**MODEL, **sizes, **changes})


def costs_of(run: PlannedRun) -> dict[str, BatchCost]:
    return measure(run.recipe, run.tasks, run.codec, run.arch, run.mixture)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        ATTRIBUTE,
        {**ATTRIBUTE, "optimiser__ema": 0.9, "optimiser__kind": "muon"},
        TOKEN,
        {"optimiser__recompute": True},
    ],
    ids=["shared", "attribute", "average and muon", "token", "recompute"],
)
def test_memory_is_that_of_torchs_tracker(changes: dict[str, object]) -> None:
    compare_with_tracker(planned_run(recipe(**changes), Path()))


def test_tuning_with_prompts_is_planned_with_the_model_it_starts_from(tmp_path: Path) -> None:
    train(recipe(**TOKEN, steps=1, optimiser__warmup=0), tmp_path / "start", quiet=True)
    values = tuning(tmp_path / "start", "colours", "captions", tasks__colours__batch=12, tasks__captions__batch=12)
    run = planned_run(values, Path())
    counts = counts_of(run.model, moments_of(run), averages=False)
    tuned = prepare_run(values, Path(), tmp_path / "tuned").state.model
    assert counts.parameters == sum(parameter.numel() for parameter in tuned.parameters())
    assert counts.trained == sum(parameter.numel() for parameter in tuned.parameters() if parameter.requires_grad)
    assert held(counts, 1).moments == 2 * held(counts, 1).gradients == 2 * 4 * counts.trained < counts.parameters
    compare_with_tracker(run)


class Tracker(MemTracker):
    """Torch's, which hooks every parameter to tell gradients from other tensors, also one that has none."""

    def _track_module_params_and_buffers(self, module: nn.Module, install_grad_hooks: bool = True) -> tuple[int, int]:
        return super()._track_module_params_and_buffers(module, install_grad_hooks=False)


def compare_with_tracker(run: PlannedRun) -> None:
    """Make a batch of each task as a step does, and compare its peak with what is planned."""
    counts = counts_of(run.model, moments_of(run), averages=bool(run.recipe.optimiser.ema))
    objective = objective_on_cpu(run.recipe, run.tasks, run.codec, run.arch)
    state = state_of(run.recipe, objective.model, run.method)
    maker, costs = BatchMaker(run.mixture), costs_of(run)
    for parameter in objective.model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    state.optimiser.step()  # all moments are there
    for index, data in enumerate(run.tasks):
        plan = Plan(step=0, place=0, index=index, start=0, count=12, stage=0)
        batch = maker[plan][1]
        tracker = Tracker()
        tracker.track_external(objective.model, state.optimiser, *(state.average or {}).values())
        with tracker:
            made = objective(batch, plan)
            torch.stack([*made.terms.values(), *made.balance.values()]).sum().backward()
        (peak,) = (device["Total"] for device in tracker.get_tracker_snapshot("peak").values())
        cost = costs[data.task.name]
        assert held(counts, 1).total + cost.saved + cost.extra == pytest.approx(peak, rel=0.05), data.task.name


def test_gradients_wait_for_those_of_the_other_pass() -> None:
    """Those of the candidates, beside activations of the inputs; activations of many candidates outweigh them."""
    inputs = PassCost(saved=50.0, extra=4.0)
    few, many = (PassCost(saved=saved, extra=3.0) for saved in (10.0, 40.0))
    assert BatchCost(samples=1, candidates=1, inputs=inputs, encoding=few, waiting=20.0).extra == 4 + 20 - 10
    assert BatchCost(samples=1, candidates=1, inputs=inputs, encoding=many, waiting=20.0).extra == 4.0


def test_held_is_what_a_step_leaves() -> None:
    for changes in ({}, {"optimiser__kind": "muon", "optimiser__ema": 0.5}, {"balance__method": "own_moments"}):
        run = planned_run(recipe(**changes), Path())
        counts = counts_of(run.model, moments_of(run), averages=bool(run.recipe.optimiser.ema))
        objective = objective_on_cpu(run.recipe, run.tasks, run.codec, run.arch)
        state = state_of(run.recipe, objective.model, run.method)
        parameters = list(objective.model.parameters())
        assert counts.parameters == sum(parameter.numel() for parameter in parameters)
        bytes_held = held(counts, 1)
        assert bytes_held.weights == sum(parameter.nbytes for parameter in parameters)
        assert bytes_held.average == sum(value.nbytes for value in (state.average or {}).values())
        gradients = {name: torch.zeros_like(parameter) for name, parameter in objective.model.named_parameters()}
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        if hasattr(state.optimiser, "gradients"):
            state.optimiser.gradients = {data.task.name: gradients for data in run.tasks}
        state.optimiser.step()
        kept = [value for values in state.optimiser.state.values() for value in values.values()]
        assert bytes_held.moments == sum(value.nbytes for value in kept if value.ndim or value.numel() > 1) + sum(
            2 * parameter.nbytes * (len(run.tasks) if "balance__method" in changes else 1)
            for parameter in parameters
            if not parameter.ndim
        )


def test_flop_are_those_of_torchs_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside attention on a CPU, for which the counter has no formula."""
    monkeypatch.setattr(measuring, "_OF_CPU", {})
    run = planned_run(recipe(**ATTRIBUTE), Path())
    objective, maker, costs = (
        objective_on_cpu(run.recipe, run.tasks, run.codec, run.arch),
        BatchMaker(run.mixture),
        costs_of(run),
    )
    for index, data in enumerate(run.tasks):
        plan = Plan(step=0, place=0, index=index, start=0, count=12, stage=0)
        with FlopCounterMode(display=False) as counter:
            objective(maker[plan][1], plan).loss.backward()
        cost = costs[data.task.name]
        assert cost.inputs.flop + cost.encoding.flop == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_attention_is_counted() -> None:
    query, key = torch.zeros(2, 3, 5, 8), torch.zeros(2, 3, 7, 8)
    products = 2 * (2 * 3 * 5 * 7 * 8)
    of_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    assert measuring._OF_CPU[of_cpu](query, key, key, out_val=None) == 2 * products
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    assert measuring._OF_CPU[backward](query, query, key, key, out_val=None) == 5 * products


@pytest.mark.parametrize(
    ("changes", "name", "value", "tolerance"),
    [
        ({}, "_AFFORDABLE", 1e6, 0.1),
        (TOKEN, "_AFFORDABLE", 1e6, 0.25),  # each pad of a text is left out, and texts differ
        (ATTRIBUTE, "_WHOLE_MODEL", 0.0, 0.01),
    ],
    ids=["few rows", "few rows of tokens", "few layers"],
)
def test_a_straight_line_goes_on_to_what_is_measured(
    changes: dict[str, object], name: str, value: float, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned_run(recipe(**changes), Path())
    whole = costs_of(run)
    monkeypatch.setattr(measuring, name, value)
    for task, cost in costs_of(run).items():
        for part in ("inputs", "encoding"):
            measured, continued = getattr(whole[task], part), getattr(cost, part)
            assert continued.tokens == pytest.approx(measured.tokens)
            assert continued.saved == pytest.approx(measured.saved, rel=0.03)
            assert continued.flop == pytest.approx(measured.flop, rel=tolerance)


def test_some_rows_of_a_batch_are_a_batch() -> None:
    run = planned_run(small_recipe(("captions", "retrieval", "words"), tasks__retrieval__batch=6), Path())
    for index, count in ((0, 2), (1, 4), (2, 2)):
        size = run.mixture.sets[index].stages[0].batch
        batch = BatchMaker(run.mixture)[Plan(step=0, place=0, index=index, start=0, count=size, stage=0)][1]
        assert batch is not None
        part = first_rows(batch, count)
        rows = [row * size // count for row in range(count)]
        assert part.ids == tuple(batch.ids[row] for row in rows)
        for of_part, of_batch in zip(part.inputs.parts, batch.inputs.parts, strict=True):
            assert torch.equal(of_part.values, of_batch.values[rows])
        for new, row in enumerate(rows):
            assert torch.equal(
                part.readout.position_R[part.readout.row_R == new], batch.readout.position_R[batch.readout.row_R == row]
            )
        if batch.readout.soft_RK is not None and batch.candidates is not None:
            assert torch.equal(part.readout.soft_RK, batch.readout.soft_RK[rows][:, rows])  # type: ignore[arg-type]
        assert first_rows(batch, size) is batch


def test_a_recipe_without_a_sample_that_can_be_read_says_so(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"no picture")
    values = recipe()
    source = {"format": "folder", "path": str(tmp_path)}
    tasks = {"colours": dataclasses.replace(values.tasks["colours"], train=source, val=None)}
    run = planned_run(dataclasses.replace(values, tasks=tasks), Path())
    with pytest.raises(UserError, match=r"tasks\.colours\.train: no sample of a batch can be read; the first: "):
        costs_of(run)
