"""Numbers that are learnt by Adam."""

import pytest
import torch

from uniperceiver.optimisation.balance.learnt import Learnt

STEPS = [{"a": 0.5, "b": -1.0}, {"a": -0.25}, {"a": 3.0}, {"b": 0.1}, {}, {"a": 0.5, "b": 0.7}]


def test_it_is_torch_s_adam() -> None:
    learnt = Learnt({"a": 1.0, "b": -2.0}, lr=0.1, decay=0.3)
    parameters = {"a": torch.tensor(1.0, dtype=torch.float64), "b": torch.tensor(-2.0, dtype=torch.float64)}
    adam = torch.optim.Adam(list(parameters.values()), lr=0.1, weight_decay=0.3)
    for gradients in STEPS:
        learnt.descend(gradients)
        for task, parameter in parameters.items():
            parameter.grad = torch.tensor(gradients[task], dtype=torch.float64) if task in gradients else None
        adam.step()
        assert learnt.values == pytest.approx({task: float(each) for task, each in parameters.items()}, rel=1e-12)


def test_it_goes_on_from_its_state() -> None:
    whole, other = (Learnt({"a": 1.0, "b/c": 0.0}, lr=0.1, decay=0.01) for _ in range(2))
    for gradients in ({"a": 1.0, "b/c": 2.0}, {"a": -3.0}):
        whole.descend(gradients)
    other.load({name: each.clone() for name, each in whole.state().items()})
    for one in (whole, other):
        one.descend({"a": 0.3, "b/c": -0.2})
    assert whole.values == other.values
    assert whole.values != {"a": 1.0, "b/c": 0.0}
