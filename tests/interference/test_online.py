"""Pairs of batches of the same step, as training makes them, against all pairs written out."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.toys import towards, toy_model
from uniperceiver.interference.groups import groups_of
from uniperceiver.interference.online import PairsOfSteps

TASKS = ("one", "same", "against")
LOSSES = (towards(1.0), towards(1.0), towards(-1.0))


def drawn(steps: int, batches: int = 3) -> list[list[int]]:
    return np.random.default_rng(0).integers(3, size=(steps, batches)).tolist()


def train(model: nn.Module, pairs: PairsOfSteps | None, draws: Sequence[Sequence[int]]) -> list[list[Tensor]]:
    """A gradient descent on batches of the drawn tasks; the gradient of every single batch on `second.weight`."""
    parameter, gradients = dict(model.named_parameters())["second.weight"], []
    for step, tasks in enumerate(draws):
        model.zero_grad()
        of_step = []
        for place, task in enumerate(tasks):
            loss = LOSSES[task](model, 10 * step + place)
            of_step.append(torch.autograd.grad(loss, parameter, retain_graph=True)[0].double())
            loss.backward()
            if pairs is not None:
                pairs.after_backward(TASKS[task])
        if pairs is not None:
            pairs.after_step()
        gradients.append(of_step)
        with torch.no_grad():
            for weight in model.parameters():
                assert weight.grad is not None
                weight -= 0.01 * weight.grad
    return gradients


def watched(model: nn.Module) -> PairsOfSteps:
    parameters = dict(model.named_parameters())
    return PairsOfSteps(TASKS, groups_of(parameters, "*.weight"), parameters)


def test_the_figures_are_those_of_all_pairs_of_a_step() -> None:
    model, draws = toy_model(), drawn(80)
    pairs = watched(model)
    gradients = train(model, pairs, draws)
    effect, cosine, conflict = (np.zeros((3, 3)) for _ in range(3))
    count = np.zeros((3, 3))
    for tasks, of_step in zip(draws, gradients, strict=True):
        for p, i in enumerate(tasks):
            for q, j in enumerate(tasks):
                if p != q:
                    product = float((of_step[p] * of_step[q]).sum())
                    effect[i, j] += product / float(of_step[q].norm())
                    cosine[i, j] += product / float(of_step[q].norm() * of_step[p].norm())
                    conflict[i, j] += product < 0
                    count[i, j] += 1
    effect /= count
    estimate = next(estimate for group, estimate in pairs.measure().items() if group.name == "second.weight")
    np.testing.assert_allclose(estimate.matrix_KK, effect / effect.diagonal()[:, None], rtol=1e-4)
    np.testing.assert_allclose(estimate.cosine_KK, cosine / count, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(estimate.conflict_rate_KK, conflict / count)
    assert estimate.matrix_KK[0, 2] < 0 < estimate.matrix_KK[0, 1]
    assert (estimate.low_KK[0] <= estimate.matrix_KK[0] + 1e-9).all()
    assert (estimate.matrix_KK[0] <= estimate.high_KK[0] + 1e-9).all()


def test_training_is_not_changed_and_a_window_forgets_the_one_before() -> None:
    plain, looked_at = toy_model(), toy_model()
    pairs = watched(looked_at)
    train(plain, None, drawn(12))
    train(looked_at, pairs, drawn(12))
    for expected, parameter in zip(plain.parameters(), looked_at.parameters(), strict=True):
        assert torch.equal(expected, parameter)
    pairs.measure()
    train(looked_at, pairs, [[0, 1]] * 12)
    estimate = next(iter(pairs.measure().values()))
    assert np.isfinite(estimate.cosine_KK[0, 1])
    assert np.isnan(estimate.cosine_KK[0, 0])  # no step drew it twice
    assert np.isnan(estimate.matrix_KK).all()  # so that there is nothing to compare with


def test_what_is_not_finite_is_left_out() -> None:
    model = toy_model()
    pairs = watched(model)
    for _ in range(2):
        (LOSSES[0](model, 1) * float("nan")).backward()
        pairs.after_backward("one")
        for task in (0, 0, 1):
            LOSSES[task](model, task).backward()
            pairs.after_backward(TASKS[task])
        pairs.after_step()
    estimate = next(iter(pairs.measure().values()))
    assert np.isfinite(estimate.matrix_KK[0, :2]).all()


@pytest.mark.parametrize("steps", [0, 9])
def test_few_steps_have_no_interval(steps: int) -> None:
    model = toy_model()
    pairs = watched(model)
    train(model, pairs, drawn(steps))
    if steps:
        assert np.isnan(next(iter(pairs.measure().values())).low_KK).all()


def test_closed_it_looks_at_nothing() -> None:
    model = toy_model()
    pairs = watched(model)
    pairs.close()
    train(model, pairs, drawn(12))
    assert not next(iter(pairs.measure().values())).cosine_KK.any()


def test_factors_on_gradients_do_not_matter() -> None:
    """As a method of balancing may weight each batch otherwise: the loss is compared, not the weighted loss."""
    model = nn.Linear(2, 1, bias=False)
    pairs = PairsOfSteps(TASKS[:2], groups_of(dict(model.named_parameters()), "weight"), dict(model.named_parameters()))
    for step in range(40):
        often, seldom = (0, 1) if step % 2 else (1, 0)
        for task, factor in ((often, 1.0), (often, 0.5), (seldom, 3.0 + step)):
            (factor * (model.weight[0, task] + model.weight.sum() / 2)).backward()
            pairs.after_backward(TASKS[task], factor)
        pairs.after_step()
    estimate = next(iter(pairs.measure().values()))
    # Gradients (1.5, 0.5) and (0.5, 1.5): as long as each other, with cosine 0.6.
    np.testing.assert_allclose(estimate.matrix_KK, [[1.0, 0.6], [0.6, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(estimate.low_KK, estimate.matrix_KK, rtol=1e-6)


def test_of_many_batches_in_a_step_only_some_are_held() -> None:
    model = toy_model()
    pairs = watched(model)
    for place in range(12):
        LOSSES[place % 3](model, place).backward()
        pairs.after_backward(TASKS[place % 3])
    assert len(pairs._batches) == len(TASKS) + 1
    pairs.after_step()
    assert pairs.batches == 1
