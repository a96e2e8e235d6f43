"""The state of a run as tensors and counters."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small_run import same_tensors
from tests.toys import ToyLinear
from uniperceiver.config import OptimiserConfig
from uniperceiver.errors import UserError
from uniperceiver.optimisation.adamw import adamw
from uniperceiver.training import checkpoint
from uniperceiver.training.state import pack, unpack
from uniperceiver.training.step import TrainState

WHERE = Path("run/checkpoints/step-000001")


def state(width: int = 3, *, used: bool = False, average: bool = True) -> TrainState:
    torch.manual_seed(int(used))
    model = ToyLinear(width, 2)
    optimiser = adamw(model, OptimiserConfig())
    copies = {name: each.detach().clone() for name, each in model.named_parameters()} if average else None
    one = TrainState(model=model, optimiser=optimiser, average=copies, consumed=[0, 0])
    if used:
        model(torch.ones(1, width)).sum().backward()
        optimiser.step()
        one.step, one.consumed, one.skipped, one.skipped_in_a_row, one.evaluated = 7, [5, 6], 3, 2, 4
        one.broken, one.best = {"a": {"x.jpg": "damaged"}}, {"step": 4, "score": 0.5}
    return one


def test_everything_comes_back_through_files(tmp_path: Path) -> None:
    before, after = state(used=True), state()
    groups, counters = pack(before, ["a", "b"])
    checkpoint.write(tmp_path / "step-000007", groups, counters)
    unpack(after, *checkpoint.read(tmp_path / "step-000007"), ["a", "b"], WHERE)
    groups_after, counters_after = pack(after, ["a", "b"])
    assert counters == counters_after
    assert counters["finite"] is True
    assert set(groups) == {"model", "optimiser", "average"}
    assert all(same_tensors(groups[name], groups_after[name]) for name in groups)


def test_tasks_are_counted_by_name() -> None:
    groups, counters = pack(state(used=True), ["a", "b"])
    after = state()
    unpack(after, groups, counters, ["b", "a"], WHERE)
    assert after.consumed == [6, 5]


def test_other_tasks_are_refused() -> None:
    groups, counters = pack(state(used=True), ["a", "b"])
    with pytest.raises(
        UserError, match=r"step-000001: was saved with the tasks \['a', 'b'\], the recipe has \['a', 'c'\]"
    ):
        unpack(state(), groups, counters, ["a", "c"], WHERE)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: state(4), r"of another size: 'weight' is \(2, 3\) there and \(2, 4\) in the recipe's model; use"),
        (lambda: _without_bias(), "does not fit the recipe's model: 'bias' is in only one of them"),
    ],
)
def test_another_model_is_refused_before_anything_changes(model: Any, message: str) -> None:
    groups, counters = pack(state(used=True), ["a", "b"])
    other = model()
    before = {name: value.clone() for name, value in other.model.state_dict().items()}
    with pytest.raises(UserError, match=message):
        unpack(other, groups, counters, ["a", "b"], WHERE)
    assert same_tensors(before, other.model.state_dict())
    assert other.step == 0


def _without_bias() -> TrainState:
    model = ToyLinear(3, 2, bias=False)
    return TrainState(model=model, optimiser=adamw(model, OptimiserConfig()), consumed=[0, 0])


def test_an_average_that_was_not_saved_starts_at_the_weights() -> None:
    before = state(used=True, average=False)
    after = state()
    unpack(after, *pack(before, ["a", "b"]), ["a", "b"], WHERE)
    assert after.average is not None
    assert same_tensors(after.average, {name: each.detach() for name, each in before.model.named_parameters()})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_marked(value: float) -> None:
    one = state()
    with torch.no_grad():
        one.model.weight[0, 0] = value  # type: ignore[union-attr, operator, index]
    assert pack(one, ["a", "b"])[1]["finite"] is False
