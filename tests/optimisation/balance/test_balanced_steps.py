"""Steps with a method: what it is given, what becomes of what it returns, and what a skipped step leaves alone."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.balancing import NAMES, method
from tests.small_run import same_tensors
from tests.toys import ToyLinear
from uniperceiver.config import OptimiserConfig, TaskBalanceConfig
from uniperceiver.optimisation.adamw import optimiser_tensors
from uniperceiver.optimisation.balance.method import Method, TaskFacts, Updated
from uniperceiver.optimisation.balance.task_gradients import TaskGradients
from uniperceiver.training.step import BatchLoss, StepReport, TrainState, train_step

CONFIG = OptimiserConfig(clip=0.0, warmup=0)
X_BD = torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.0, 1.0], [-1.0, 0.2, 2.0], [0.7, 0.7, -0.7]])


class Recorded(Method):
    """The mean of the tasks' gradients, with everything that it is given."""

    needs_gradients = True

    def __init__(self) -> None:
        super().__init__({name: TaskFacts(share=0.5) for name in NAMES[:2]}, TaskBalanceConfig(), 0)
        self.seen: list[TaskGradients] = []
        self.done: list[Updated] = []
        self.combined: dict[str, Tensor] = {}

    def combine(self, gradients: TaskGradients, step: int) -> dict[str, Tensor]:
        self.seen.append(gradients)
        self.combined = {name: each.clone() for name, each in super().combine(gradients, step).items()}
        return super().combine(gradients, step)

    def after_step(self, updated: Updated) -> None:
        self.done.append(updated)


def state_of(one: Method, *, scaler: bool = False) -> TrainState:
    torch.manual_seed(0)
    model = ToyLinear(3, 2)
    scaled = torch.amp.GradScaler("cpu", init_scale=2.0**13) if scaler else None
    return TrainState(model=model, optimiser=one.optimiser(model, CONFIG), scaler=scaled, method=one)


def step(
    state: TrainState,
    draws: Sequence[tuple[str, int]],
    *,
    spoil: Callable[[Tensor, str], Tensor] | None = None,
    **more: Any,
) -> StepReport:
    """A step on draws of (task, row of data), whose losses have other places of the least value for each task."""

    def objective(batch: Any, plan: Any) -> BatchLoss:
        aim = 1.0 + NAMES.index(batch.task)
        loss = ((state.model(X_BD[plan]) - aim) ** 2).mean() + 0.1
        terms = {"nll": loss if spoil is None else spoil(loss, batch.task)}
        return replace(BatchLoss(terms=terms), **more)

    work: list[tuple[Any, Any]] = [(row, type("Batch", (), {"task": task})) for task, row in draws]
    return train_step(state, work, objective, CONFIG, 1 / len(draws))


def snapshot(state: TrainState) -> dict[str, Tensor]:
    groups: tuple[Mapping[str, Tensor], ...] = (
        state.model.state_dict(),
        optimiser_tensors(state.model, state.optimiser),
        state.method.state(),
    )
    return {f"{place}/{name}": value.clone() for place, group in enumerate(groups) for name, value in group.items()}


ALTERNATING = [("reading", 0), ("seeing", 1)]


def test_the_mean_of_one_draw_per_task_is_the_usual_gradient() -> None:
    one, usual = state_of(Recorded()), state_of(method("fixed", 2))
    for draws in (ALTERNATING, [("reading", 0), ("reading", 2), ("seeing", 1), ("seeing", 3)]):
        reports = [step(each, draws) for each in (one, usual)]
        for mine, other in zip(one.model.parameters(), usual.model.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad)
            torch.testing.assert_close(mine, other)
        assert reports[0].grad_norm == pytest.approx(reports[1].grad_norm, rel=1e-5)
        for task, losses in reports[1].losses.items():
            torch.testing.assert_close(reports[0].losses[task], losses)


def test_a_task_drawn_twice_is_the_mean_of_its_batches() -> None:
    recorded = Recorded()
    state = state_of(recorded)
    model = ToyLinear(3, 2)
    model.load_state_dict(state.model.state_dict())
    step(state, [("seeing", 0), ("reading", 1), ("seeing", 2)], factor=0.5)
    (seen,), (done,) = recorded.seen, recorded.done
    assert seen.tasks == ("seeing", "reading")
    losses = {
        "seeing": torch.stack([((model(X_BD[row]) - 2.0) ** 2).mean() + 0.1 for row in (0, 2)]).mean(),
        "reading": ((model(X_BD[1]) - 1.0) ** 2).mean() + 0.1,
    }
    assert done.losses == pytest.approx({task: float(loss.detach()) for task, loss in losses.items()})
    for task, loss in losses.items():
        expected = torch.autograd.grad(0.5 * loss, list(model.parameters()))
        for (name, _), each in zip(model.named_parameters(), expected, strict=True):
            torch.testing.assert_close(seen.by_task[task][name], each)
    assert done.gradients is seen
    again = done.again()
    assert again.keys() == done.losses.keys()
    assert all(again[task] != done.losses[task] for task in again)
    with torch.no_grad():
        now = torch.stack([((state.model(X_BD[row]) - 2.0) ** 2).mean() + 0.1 for row in (0, 2)]).mean()
    assert again["seeing"] == pytest.approx(float(now))


def test_balancing_losses_belong_to_the_task() -> None:
    recorded = Recorded()
    state = state_of(recorded)
    extra = state.model.bias.sum() * 3.0  # type: ignore[union-attr, operator]
    step(state, [("reading", 0)], balance={"switch": extra}, factor=0.0)
    torch.testing.assert_close(recorded.seen[0].by_task["reading"]["bias"], torch.tensor([3.0, 3.0]))
    assert float(recorded.seen[0].by_task["reading"]["weight"].abs().sum()) == 0.0


def test_clipping_is_that_of_the_combined_gradient() -> None:
    recorded = Recorded()
    state = state_of(recorded)
    report = step(state, ALTERNATING)
    length = torch.cat([each.flatten() for each in recorded.combined.values()]).norm()
    assert report.grad_norm == pytest.approx(float(length), rel=1e-6)


@pytest.mark.parametrize("name", ["pcgrad", "nash", "gradnorm", "famo", "uncertainty", "tbgn"])
def test_float16_s_scale_changes_nothing(name: str) -> None:
    plain, scaled = state_of(method(name, 2)), state_of(method(name, 2), scaler=True)
    for _ in range(3):
        for state in (plain, scaled):
            step(state, [("seeing", 1)] if name == "tbgn" else ALTERNATING)
    for one, other in zip(plain.model.parameters(), scaled.model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scaler", [False, True])
@pytest.mark.parametrize("name", ["pcgrad", "cagrad", "nash", "gradnorm", "famo", "uncertainty", "dwa", "tbgn"])
@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_a_step_that_is_not_finite_leaves_everything(name: str, scaler: bool, fault: str) -> None:
    state = state_of(method(name, 2, period=1), scaler=scaler)
    draws = [("seeing", 1)] if name == "tbgn" else ALTERNATING
    for _ in range(2):
        assert step(state, draws).skipped is None
    before = snapshot(state)

    def spoil(loss: Tensor, task: str) -> Tensor:
        if task != "seeing":
            return loss
        return loss * float("nan") if fault == "loss" else loss + (loss - loss.detach()).abs().sqrt()

    report = step(state, draws, spoil=spoil)
    assert report.skipped == ("loss of task 'seeing'" if fault == "loss" else "gradient")
    assert same_tensors(before, snapshot(state))
    step(state, draws)
    after = snapshot(state)
    assert not any(torch.equal(before[key], after[key]) for key in before if key.startswith("0/"))


def test_a_method_sees_only_gradients_that_are_finite() -> None:
    recorded = Recorded()
    state = state_of(recorded)
    assert step(state, ALTERNATING, factor=float("inf")).skipped == "gradient"
    assert not recorded.seen
    assert not recorded.done


def test_the_optimiser_is_told_the_task() -> None:
    state = state_of(method("tbgn", 2))
    for task, touched_K in (("seeing", [0.0, 1.0]), ("reading", [1.0, 1.0])):
        step(state, [(task, 0)])
        assert state.optimiser.state[state.model.weight]["touched_K"].tolist() == touched_K  # type: ignore[index]


def test_weights_are_factors_on_the_losses() -> None:
    class Doubled(Method):
        def weights(self, losses: Mapping[str, float], step: int) -> dict[str, float]:
            assert not losses
            return {"seeing": 2.0}

    one, usual = state_of(Doubled({}, TaskBalanceConfig(), 0)), state_of(method("fixed", 2))
    step(one, ALTERNATING)
    step(usual, [("reading", 0), ("seeing", 1), ("seeing", 1)])  # a mean of three instead of two
    for mine, other in zip(one.model.parameters(), usual.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad * 1.5)  # type: ignore[operator]


def test_famo_weighs_by_the_losses_of_the_step() -> None:
    one, usual = state_of(method("famo", 2)), state_of(method("fixed", 2))
    losses = {name: float(each[0]) for name, each in step(usual, ALTERNATING).losses.items()}
    weights = method("famo", 2).weights(losses, 0)
    assert abs(weights["seeing"] - weights["reading"]) > 0.1
    step(one, ALTERNATING)
    model = ToyLinear(3, 2)
    model.load_state_dict(state_of(Recorded()).model.state_dict())
    total = sum(
        (
            weights[task] / 2 * (((model(X_BD[row]) - aim) ** 2).mean() + 0.1)
            for task, row, aim in (("reading", 0, 1.0), ("seeing", 1, 2.0))
        ),
        start=torch.zeros(()),
    )
    expected = torch.autograd.grad(total, list(model.parameters()))
    for parameter, each in zip(one.model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, each)
    assert one.method.shown()["seeing"] != one.method.shown()["reading"]


@pytest.mark.parametrize(("name", "length"), [("tbgn", 4.0), ("pcgrad", 0.01)])
def test_clipping_leaves_normalised_gradients_alone(name: str, length: float) -> None:
    """What TBGN has made as long as its loss weight is not cut; all others are."""
    state = state_of(method(name, 2, loss_weight=4.0))

    def objective(batch: Any, plan: Any) -> BatchLoss:
        return BatchLoss(terms={"nll": (state.model(X_BD[0]) ** 2).sum() * 50})

    work: list[tuple[Any, Any]] = [(0, type("Batch", (), {"task": "seeing"}))]
    train_step(state, work, objective, OptimiserConfig(clip=0.01), 1.0)
    found = torch.cat([each.grad.flatten() for each in state.model.parameters() if each.grad is not None])
    assert float(found.norm()) == pytest.approx(length, rel=1e-3)


def test_a_step_without_a_batch_teaches_nothing() -> None:
    for name in ("pcgrad", "famo", "tbgn", "gradnorm"):
        state = state_of(method(name, 2))
        train_step(state, [], lambda batch, plan: BatchLoss(terms={}), CONFIG, 1.0)
        assert state.step == 1


class Announced(Method):
    """Says what it is told before an update, and does without clipping where it is asked to."""

    def __init__(self, *, clips: bool) -> None:
        super().__init__({name: TaskFacts(share=0.5) for name in NAMES[:2]}, TaskBalanceConfig(), 0)
        self.clips = clips  # type: ignore[misc]
        self.drawn: list[list[str]] = []

    def prepare(self, optimiser: torch.optim.Optimizer, drawn: Collection[str]) -> None:
        self.drawn.append(sorted(drawn))


@pytest.mark.parametrize("clips", [True, False])
def test_a_method_is_told_of_the_tasks_before_an_update_and_may_forbid_clipping(clips: bool) -> None:
    announced = Announced(clips=clips)
    state = state_of(announced)

    def objective(batch: Any, plan: Any) -> BatchLoss:
        return BatchLoss(terms={"nll": 100 * state.model(X_BD[plan]).square().mean()})

    work: list[tuple[Any, Any]] = [(row, type("Batch", (), {"task": task})) for task, row in ALTERNATING]
    report = train_step(state, work, objective, replace(CONFIG, clip=0.1), 0.5)
    assert report.grad_norm > 1
    assert announced.drawn == [["reading", "seeing"]]
    gradients = [value.grad.flatten() for value in state.model.parameters() if value.grad is not None]
    length = float(torch.cat(gradients).norm())
    assert length == pytest.approx(0.1 if clips else report.grad_norm, rel=1e-4)
