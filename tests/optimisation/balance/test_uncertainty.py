"""Uncertainty weighting, against autograd of its formula."""

import math

import pytest
import torch

from tests.balancing import NAMES, method, updated


def test_weights_and_their_learning_are_those_of_the_formula() -> None:
    one = method("uncertainty", lr=0.05)
    assert one.weights({}, 0) == pytest.approx(dict.fromkeys(NAMES[:3], 1.0))
    s_K = torch.full((3,), -math.log(2.0), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([s_K], lr=0.05)
    for step in range(5):
        losses_K = torch.tensor([3.0, 0.1, 0.7], dtype=torch.float64) / (step + 1)
        losses_K.requires_grad_()
        adam.zero_grad()
        (losses_K / (2 * s_K.exp()) + s_K / 2).sum().backward()
        assert losses_K.grad is not None
        assert list(one.weights({}, step).values()) == pytest.approx(losses_K.grad.tolist(), rel=1e-9)
        adam.step()
        one.after_step(updated(losses_K.tolist()))
    assert one.shown()["seeing"] > 1 > one.shown()["reading"]  # a small loss, and a large one


def test_a_task_that_is_not_drawn_keeps_its_weight() -> None:
    one = method("uncertainty")
    one.after_step(updated([3.0]))
    assert one.shown()["reading"] < 1
    assert one.shown()["seeing"] == pytest.approx(1.0)
