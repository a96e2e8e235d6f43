"""One update: what is skipped stays as it was, bit for bit; gradients are clipped; broken samples are bounded."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.parts import flat
from tests.small_run import IMAGES, log_lines, same_tensors, small_recipe, train
from tests.toys import ToyLinear
from uniperceiver.config import OptimiserConfig, TaskBalanceConfig
from uniperceiver.data.mix import BatchMaker, Plan
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.optimisation.adamw import adamw, optimiser_tensors
from uniperceiver.optimisation.balance.method import Fixed
from uniperceiver.records import Batch, Sample
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training.loop import Run
from uniperceiver.training.step import BatchLoss, TrainState, train_step

CONFIG = OptimiserConfig(clip=0.0, ema=0.5)


def tiny_state(seed: int = 0) -> TrainState:
    torch.manual_seed(seed)
    model = ToyLinear(3, 2)
    average = {name: each.detach().clone() for name, each in model.named_parameters()}
    return TrainState(model=model, optimiser=adamw(model, CONFIG), average=average)


def snapshot(state: TrainState) -> dict[str, Tensor]:
    """Weights, moments and average, copied."""
    moments: Mapping[str, Tensor] = optimiser_tensors(state.model, state.optimiser)
    groups = (state.model.state_dict(), moments, state.average or {})
    return {f"{place}/{name}": value.clone() for place, group in enumerate(groups) for name, value in group.items()}


def work(*tasks: str) -> list[tuple[Any, Any]]:
    """Plans and batches of which the objectives here look at nothing but the task."""
    return [(place, type("Batch", (), {"task": task})) for place, task in enumerate(tasks)]


def loss_of(state: TrainState, factor: float = 1.0, power: float = 1.0) -> Tensor:
    return factor * (state.model(torch.ones(1, 3)) ** 2).sum() ** power


def step(state: TrainState, *losses: Tensor, config: OptimiserConfig = CONFIG, weight: float = 1.0) -> Any:
    given = iter([BatchLoss(terms={"nll": loss}, factor=weight) for loss in losses])
    several = work(*(f"task {place}" for place in range(len(losses))))
    return train_step(state, several, lambda batch, plan: next(given), config, 1 / len(losses))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("warm", [True, False])
def test_a_loss_that_is_not_finite_changes_nothing(value: float, warm: bool) -> None:
    state = tiny_state()
    if warm:  # there are moments to spoil
        step(state, loss_of(state))
    before = snapshot(state)
    report = step(state, loss_of(state), loss_of(state) * value)
    assert report.skipped == "loss of task 'task 1'"
    assert same_tensors(before, snapshot(state))
    assert (state.skipped, state.skipped_in_a_row, state.step) == (1, 1, 1 + warm)
    step(state, loss_of(state))
    assert (state.skipped, state.skipped_in_a_row) == (1, 0)
    assert not same_tensors(before, snapshot(state))


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    state = tiny_state()
    with torch.no_grad():
        state.model.weight.zero_()  # type: ignore[union-attr, operator]
        state.model.bias.zero_()  # type: ignore[union-attr, operator]
    before = snapshot(state)
    report = step(state, loss_of(state, power=0.5))  # the root of 0 has an infinite slope
    assert report.skipped == "gradient"
    assert same_tensors(before, snapshot(state))


def test_a_step_without_a_batch_changes_nothing() -> None:
    state = tiny_state()
    state.scaler = torch.amp.GradScaler("cpu")
    before = snapshot(state)
    report = train_step(state, [], lambda batch, plan: BatchLoss(terms={}), CONFIG, 1.0)
    assert (report.losses, report.skipped, state.step, state.skipped) == ({}, None, 1, 0)
    assert same_tensors(before, snapshot(state))


def test_gradients_are_the_weighted_mean_of_the_batches() -> None:
    one, other = tiny_state(), tiny_state()
    step(one, loss_of(one), loss_of(one, 3.0), weight=0.5)
    step(other, loss_of(other))  # 0.5 * (1 + 3) / 2 = 1
    for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("clip", [0.0, 0.1, 1e6])
def test_the_global_norm_is_clipped(clip: float) -> None:
    state, plain = tiny_state(), tiny_state()
    report = step(state, loss_of(state), config=OptimiserConfig(clip=clip))
    step(plain, loss_of(plain))
    expected = torch.cat([each.grad.flatten() for each in plain.model.parameters() if each.grad is not None])
    assert report.grad_norm == pytest.approx(float(expected.norm()), rel=1e-5)
    found = torch.cat([each.grad.flatten() for each in state.model.parameters() if each.grad is not None])
    factor = clip / report.grad_norm if 0 < clip < report.grad_norm else 1.0
    torch.testing.assert_close(found, expected * factor, rtol=1e-4, atol=1e-6)


def test_the_average_follows_after_the_update() -> None:
    state = tiny_state()
    first = state.model.weight.detach().clone()  # type: ignore[union-attr, operator]
    step(state, loss_of(state))
    assert state.average is not None
    # Warmed up: the first update keeps (1 + 0) / (10 + 0) of the start, however slow the average is to be.
    expected = 0.1 * first + 0.9 * state.model.weight.detach()  # type: ignore[union-attr, operator]
    torch.testing.assert_close(state.average["weight"], expected)


def spoiled(run: Run, when: Any) -> Run:
    """The run, with a NaN in the loss of every step for which `when` holds."""
    objective = run.objective

    def not_finite(batch: Batch, plan: Plan) -> BatchLoss:
        found = objective(batch, plan)
        spoil = float("nan") if when(plan.step) else 1.0
        return replace(found, terms={name: value * spoil for name, value in found.terms.items()})

    not_finite.samples = lambda plan: False  # type: ignore[attr-defined]
    run.objective = not_finite  # type: ignore[assignment]
    return run


def test_a_run_skips_counts_and_goes_on(tmp_path: Path) -> None:
    run = spoiled(prepare_run(small_recipe(), tmp_path, tmp_path / "run", quiet=True), lambda step: step == 1)
    run.train()
    clean = train(tmp_path / "clean", small_recipe())
    assert run.state.skipped == 1
    assert run.state.consumed == clean.state.consumed
    (line,) = log_lines(tmp_path / "run", "skipped")
    assert line["step"] == 2
    assert sum(map(len, line["samples"].values())) == 6
    trained = log_lines(tmp_path / "run", "train")
    assert [each["skipped"] for each in trained] == [0, 1, 1, 1]
    assert "NaN" not in (tmp_path / "run" / "log.jsonl").read_text()


def test_five_skipped_steps_in_a_row_stop_the_run(tmp_path: Path) -> None:
    run = spoiled(prepare_run(small_recipe(steps=20), tmp_path, tmp_path / "run", quiet=True), lambda step: step > 2)
    with pytest.raises(UserError) as caught:
        run.train()
    message = str(caught.value)
    assert "step 7: loss of task '" in message
    assert "5 times in a row; look at these samples" in message
    assert "scenes/train/0000" in message
    assert "\n" not in message
    assert run.state.step == 8
    assert len(log_lines(tmp_path / "run", "skipped")) == 5


def test_a_sample_of_nan_pixels_is_skipped_by_the_whole_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = ScenesSource.read

    def with_nan(self: ScenesSource, index: int) -> Sample:
        sample = read(self, index)
        bad = self.split == "train" and index == 5
        return Sample(id=sample.id, image=np.full((32, 32, 3), np.nan, np.float32), label=0) if bad else sample

    monkeypatch.setattr(ScenesSource, "read", with_nan)
    monkeypatch.setattr("uniperceiver.data.media.pixels.eval_view", lambda frames, *more: frames)
    monkeypatch.setattr("uniperceiver.data.media.pixels.train_view", lambda frames, *more: frames)
    run = train(tmp_path / "run", small_recipe(("colours",), sampling__tasks_per_step=1))
    (line,) = log_lines(tmp_path / "run", "skipped")
    assert "scenes/train/000005" in line["samples"]["colours"]
    assert run.state.skipped == 1
    assert run.state.consumed == [12]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Indices of training samples that cannot be read; to be filled by the test."""
    indices: set[int] = set()
    read = ScenesSource.read

    def failing(self: ScenesSource, index: int) -> Sample:
        if self.split == "train" and index in indices:
            raise BrokenSample(f"scenes/train/{index:06d}", "damaged\nby the test")
        return read(self, index)

    monkeypatch.setattr(ScenesSource, "read", failing)
    return indices


def test_a_broken_sample_is_left_out_and_named_once(tmp_path: Path, broken: set[int]) -> None:
    broken.add(4)
    recipe = small_recipe(("colours",), steps=20)  # several epochs of 12 samples
    run = train(tmp_path / "run", recipe)
    (line,) = log_lines(tmp_path / "run", "broken")
    assert (line["task"], line["sample"], line["reason"]) == ("colours", "scenes/train/000004", "damaged by the test")
    assert run.state.broken == {"colours": {"scenes/train/000004": "damaged by the test"}}
    assert run.state.consumed == [20 * 2 * 3]
    # Also over a stop, wherever it comes.
    train(tmp_path / "parts", recipe, stop_after=1)
    train(tmp_path / "parts", recipe, stop_after=9)
    train(tmp_path / "parts", recipe)
    assert len(log_lines(tmp_path / "parts", "broken")) == 1


def test_the_others_are_as_if_nothing_were_broken(tmp_path: Path, broken: set[int]) -> None:
    augment = {"crop": 0.3, "flip": 0.5, "erasing": 0.5}
    recipe = small_recipe(("colours",), tasks__colours__augment=augment, tasks__colours__batch=4)
    mixture = prepare_run(recipe, tmp_path, tmp_path / "run").mixture
    plans = [plan for step in range(3) for plan in mixture.plans(step, [step * 8])]
    whole = [BatchMaker(mixture)[plan] for plan in plans]
    broken.add(7)
    seen = 0
    for (_, before, _), (_, after, left_out) in zip(whole, [BatchMaker(mixture)[plan] for plan in plans], strict=True):
        assert before is not None
        assert after is not None
        staying = [place for place, name in enumerate(before.ids) if name != "scenes/train/000007"]
        assert after.ids == tuple(before.ids[place] for place in staying)
        assert len(left_out) == 4 - len(staying)
        seen += len(left_out)
        assert flat(before.inputs).pixels_BFCHW is not None
        assert flat(after.inputs).pixels_BFCHW is not None
        assert torch.equal(flat(after.inputs).pixels_BFCHW, flat(before.inputs).pixels_BFCHW[staying])
    assert seen == 2


def test_a_batch_of_broken_samples_only_is_a_step_without_it(tmp_path: Path, broken: set[int]) -> None:
    broken.update(range(12))
    recipe = small_recipe(("colours",), steps=2, data__max_broken=1.0)
    run = train(tmp_path / "run", recipe)
    assert run.state.step == 2
    assert len(log_lines(tmp_path / "run", "broken")) == 12


@pytest.mark.parametrize(("share", "allowed"), [(0.0, 1), (0.1, 1), (0.25, 3)])
def test_too_many_broken_samples_stop_the_run(tmp_path: Path, broken: set[int], share: float, allowed: int) -> None:
    broken.update(range(allowed))
    recipe = small_recipe(("colours",), steps=4, data__max_broken=share, tasks__colours__train__items=IMAGES["items"])
    train(tmp_path / "enough", recipe)
    broken.add(11)
    with pytest.raises(
        UserError, match=rf"^task 'colours': {allowed + 1} of 12 samples are broken, the last scenes/.*"
    ):
        train(tmp_path / "more", recipe)


def test_a_gradient_that_overflows_in_float16_is_no_fault_of_the_data() -> None:
    """The scale is lowered until it fits; only at a scale of 1 or of a loss that is not finite a fault is counted."""
    state = tiny_state()
    with torch.no_grad():
        state.model.weight.zero_()  # type: ignore[union-attr, operator]
        state.model.bias.zero_()  # type: ignore[union-attr, operator]
    state.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1000)
    counted = []
    for _ in range(4):  # the scale is halved each time
        assert step(state, loss_of(state, power=0.5)).skipped == "gradient"
        counted.append((state.loss_scale, state.skipped_in_a_row))
    assert counted == [(2.0, 0), (1.0, 1), (0.5, 2), (0.25, 3)]
    state.skipped_in_a_row, state.scaler = 0, torch.amp.GradScaler("cpu", init_scale=64.0)
    assert step(state, loss_of(state) * float("nan")).skipped == "loss of task 'task 0'"
    assert state.skipped_in_a_row == 1


@pytest.mark.parametrize("skips", [True, False])
def test_a_skipped_step_moves_no_selection_bias(tmp_path: Path, skips: bool) -> None:
    changes = {"moe__condition": "token", "moe__balance__bias_rate": 0.5, "steps": 1}
    run = prepare_run(small_recipe(("colours",), **changes), tmp_path, tmp_path / "run", quiet=True)
    spoiled(run, lambda step: skips).train()
    biases = [value for name, value in run.state.model.named_buffers() if name.endswith("bias_E")]
    assert biases
    assert any(bool(value.any()) for value in biases) == (not skips)


class Weighing(Fixed):
    """Weighs the two tasks apart."""

    def weights(self, losses: Mapping[str, float], step: int) -> Mapping[str, float]:
        return {"a": 0.5, "b": 3.0}


@pytest.mark.parametrize("weighs", [False, True])
def test_losses_that_balance_experts_are_a_mean_over_batches_without_any_weight_of_the_task(weighs: bool) -> None:
    state, plain = tiny_state(), tiny_state()
    state.method = Weighing({}, TaskBalanceConfig(), 0) if weighs else state.method
    made = iter(
        BatchLoss(terms={"nll": loss_of(state)}, factor=0.5, balance={"switch": loss_of(state, factor)})
        for factor in (2.0, 4.0)
    )
    report = train_step(state, work("b", "b"), lambda batch, plan: next(made), CONFIG, 0.5)
    step(plain, loss_of(plain, 0.5 * (3.0 if weighs else 1.0) + 3.0))
    for mine, theirs in zip(state.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    found = torch.stack(report.balance["b"]) / torch.stack(report.losses["b"])
    torch.testing.assert_close(found, torch.tensor([2.0, 4.0]))


def test_who_looks_at_gradients_is_told_what_they_are_multiplied_by() -> None:
    state, told = tiny_state(), list[tuple[str, float]]()
    state.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    train_step(
        state,
        work("a", "b"),
        lambda batch, plan: BatchLoss(terms={"nll": loss_of(state)}, factor=0.125),
        CONFIG,
        0.5,
        lambda task, factor: told.append((task, factor)),
    )
    assert told == [("a", 0.5 * 4.0), ("b", 0.5 * 4.0)]  # the task's own weight is part of its gradient


def test_who_looks_at_gradients_is_told_the_weight_that_the_method_gives() -> None:
    state, told = tiny_state(), list[tuple[str, float]]()
    state.method = Weighing({}, TaskBalanceConfig(), 0)

    def objective(batch: Any, plan: Any) -> BatchLoss:
        return BatchLoss(terms={"nll": loss_of(state)})

    train_step(state, work("a", "b"), objective, CONFIG, 0.5, lambda *pair: told.append(pair))
    assert told == [("a", 0.5 * 0.5), ("b", 3.0 * 0.5)]
    both, plain = [each.grad for each in state.model.parameters()], tiny_state()
    step(plain, loss_of(plain, 0.5 * 0.5 + 3.0 * 0.5))
    for mine, theirs in zip(both, plain.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.grad)
