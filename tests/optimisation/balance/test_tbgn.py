"""TBGN: the length of the update's gradient, and its optimiser: torch's AdamW for s = 1, the paper's formula otherwise,
and guards against spikes.

Shape suffixes: K tasks, T steps.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.balancing import ADAMW as CONFIG
from tests.balancing import NAMES, flat, gradients_of, layers, method, vectors
from tests.small_run import same_tensors
from uniperceiver.config import OptimiserConfig
from uniperceiver.optimisation.adamw import adamw, optimiser_tensors, parameter_groups, restore_optimiser
from uniperceiver.optimisation.balance.tbgn import SharedAdamW


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_gradient_has_the_length_of_its_loss_weight(scale: float) -> None:
    vectors_KP = vectors(1)
    found_P = flat(method("tbgn", loss_weight=0.3).combine(gradients_of(scale * vectors_KP), 0))
    np.testing.assert_allclose(found_P, 0.3 * vectors_KP[0] / np.linalg.norm(vectors_KP), rtol=1e-9)


def test_a_gradient_of_zero_stays_zero() -> None:
    assert (flat(method("tbgn").combine(gradients_of(np.zeros((1, 8))), 0)) == 0).all()


def test_the_optimiser_knows_the_shares_the_guards_and_the_task() -> None:
    one = method("tbgn", tasks=2, floor=0.0, cap=0.0)
    model = layers()
    shared = one.optimiser(model, CONFIG)
    assert isinstance(shared, SharedAdamW)
    assert [group["weight_decay"] for group in shared.param_groups] == [CONFIG.weight_decay, 0.0]
    for task in (NAMES[0], NAMES[1]):
        one.prepare(shared, {task: [torch.tensor(1.0)]})
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        shared.step()
    (beta1, _), state = CONFIG.betas, shared.state[model[0].weight]  # type: ignore[index]
    # First alone, with s = 1, then as one of two tasks, with s = 1/2.
    expected = torch.full((4, 3), beta1 * (1 - beta1) + 2 * (1 - beta1), dtype=torch.float64)
    torch.testing.assert_close(state["exp_avg"], expected)
    assert state["touched_K"].tolist() == [1.0, 1.0]


def optimiser(
    model: nn.Module, shares: Sequence[float] = (1.0,), *, floor: float = 0.0, cap: float = 0.0
) -> SharedAdamW:
    return SharedAdamW(parameter_groups(model, CONFIG), shares, CONFIG, floor=floor, cap=cap)


def step(one: torch.optim.Optimizer, model: nn.Module, task: int, x_BD: Tensor, *, whole: bool = True) -> None:
    """A step on random data; the second layer has no gradient unless it is on the whole model."""
    one.zero_grad()
    for group in one.param_groups:
        group["task"] = task
    part = model if whole else model[0]  # type: ignore[index]
    (part(x_BD) ** 2).mean().backward()
    one.step()


def test_with_one_task_it_is_adamw_of_torch() -> None:
    ours, theirs = layers(), layers()
    one, other = optimiser(ours, floor=0.05, cap=2.0), adamw(theirs, CONFIG)
    for place, x_BD in enumerate(torch.randn(8, 5, 3, dtype=torch.float64)):
        whole = place % 3 != 1
        step(one, ours, 0, x_BD, whole=whole)
        step(other, theirs, 0, x_BD, whole=whole)
        for mine, other_s in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, other_s, rtol=1e-9, atol=1e-12)
    mine, others = optimiser_tensors(ours, one), optimiser_tensors(theirs, other)
    assert {name for name in mine if "touched" not in name} == set(others)
    for name, each in others.items():
        torch.testing.assert_close(mine[name], each, rtol=1e-9, atol=1e-12)


def by_hand(
    gradients: Sequence[tuple[int, float | None]], shares: Sequence[float], cap: float, floor: float
) -> list[float]:
    """A number that begins at 1, after each step, by the formula as it is written."""
    (beta1, beta2), value, m, n, count = CONFIG.betas, 1.0, 0.0, 0.0, 0
    touched: set[int] = set()
    values = []
    for task, gradient in gradients:
        if gradient is not None:
            touched.add(task)
            count += 1
            s = max(shares[task] / sum(shares[each] for each in touched), floor)
            m = beta1 * m + (1 - beta1) / s * gradient
            n = beta2 * n + (1 - beta2) / s * gradient**2
            update = m / (1 - beta1**count) / ((n / (1 - beta2**count)) ** 0.5 + CONFIG.eps)
            value -= CONFIG.lr * max(-cap, min(cap, update))  # of one number, the root mean square is its size
        values.append(value)
    return values


@pytest.mark.parametrize(("cap", "floor"), [(1e9, 0.0), (1.1, 0.0), (1e9, 0.3), (0.5, 0.3)])
def test_moments_are_those_of_the_formula(cap: float, floor: float) -> None:
    rng = np.random.default_rng(0)
    shares = (0.7, 0.2, 0.1)
    tasks = [0, 0, 2, 1, 1, 0, 2, 2, 0, 1, 0, 0]
    gradients = [(task, None if place in (1, 4) else float(rng.standard_normal())) for place, task in enumerate(tasks)]
    model = nn.Module()
    model.number = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    one = optimiser(model, shares, cap=cap, floor=floor)
    found = []
    for task, gradient in gradients:
        model.number.grad = None if gradient is None else torch.tensor(gradient, dtype=torch.float64)
        one.param_groups[1]["task"] = task
        one.step()
        found.append(float(model.number.detach()))
    assert found == pytest.approx(by_hand(gradients, shares, cap, floor), rel=1e-9)
    assert found != pytest.approx(by_hand(gradients, shares, 1e9, 0.9))


def longest(shares: Sequence[float], *, touches: bool, floor: float, cap: float, steps: int = 3000) -> float:
    """The longest update, in learning rates, of weights that only the last task moves.

    Args:
        touches: whether the other task gives them a gradient, of zeros, or none.
    """
    config = OptimiserConfig(lr=1.0, weight_decay=0.0, betas=(0.9, 0.999), eps=1e-8)
    model = nn.Module()
    model.weights = nn.Parameter(torch.zeros(2, 3))
    one = SharedAdamW(parameter_groups(model, config), shares, config, floor=floor, cap=cap)
    rng, most = np.random.default_rng(0), 0.0
    for task in rng.choice(2, size=steps, p=shares):
        if task:
            model.weights.grad = torch.tensor(rng.choice([-1.0, 1.0]) + rng.standard_normal((2, 3)) / 10).float()
        else:
            model.weights.grad = torch.zeros(2, 3) if touches else None
        one.param_groups[1]["task"] = int(task)
        before = model.weights.detach().clone()
        one.step()
        most = max(most, float((model.weights.detach() - before).square().mean().sqrt()))
    return most


def test_a_rare_task_spikes_without_guards_and_not_with_them() -> None:
    shares = (0.99, 0.01)
    assert longest(shares, touches=True, floor=0.0, cap=0.0) > 8
    assert longest(shares, touches=True, floor=0.05, cap=0.0) < 8
    assert longest(shares, touches=True, floor=0.0, cap=2.0) <= 2.001
    assert longest(shares, touches=True, floor=0.05, cap=2.0) <= 2.001


def test_what_belongs_to_one_task_has_no_spikes_however_rare_it_is() -> None:
    assert longest((0.99, 0.01), touches=False, floor=0.0, cap=0.0) < 1.5


def test_a_cap_scales_a_tensor_as_a_whole() -> None:
    moved = []
    for cap in (0.0, 0.5):
        model = layers()
        before = [each.detach().clone() for each in model.parameters()]
        one = SharedAdamW(parameter_groups(model, CONFIG), [1.0], CONFIG, floor=0.0, cap=cap)
        for group in one.param_groups:
            group["weight_decay"] = 0.0
        step(one, model, 0, torch.ones(2, 3, dtype=torch.float64))
        moved.append([after.detach() - first for after, first in zip(model.parameters(), before, strict=True)])
    for free, capped in zip(*moved, strict=True):
        torch.testing.assert_close(capped, free * (0.5 * CONFIG.lr / free.square().mean().sqrt()))


def test_moments_do_not_depend_on_how_often_a_task_is_drawn() -> None:
    """E[m] = sum of the tasks' gradients, whatever the shares: the mean of m over a long run."""
    directions_KD = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5]], dtype=torch.float64)
    for shares in ((0.5, 0.5), (0.8, 0.2)):
        model = nn.Module()
        model.weights = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        one, total_D = optimiser(model, shares), torch.zeros(3, dtype=torch.float64)
        tasks = np.random.default_rng(0).choice(2, size=4000, p=shares)
        for task in tasks:
            model.weights.grad = directions_KD[task].clone()
            one.param_groups[1]["task"] = int(task)
            one.step()
            total_D += one.state[model.weights]["exp_avg"]
        torch.testing.assert_close(total_D / len(tasks), directions_KD.sum(dim=0), rtol=0.06, atol=0.06)


def test_state_comes_back_by_name() -> None:
    x_TBD = torch.randn(6, 5, 3, dtype=torch.float64)
    model = layers()
    one = optimiser(model, (0.9, 0.1), floor=0.05, cap=2.0)
    for place in range(3):
        step(one, model, 0, x_TBD[place], whole=False)
    other = layers(1)
    restored = optimiser(other, (0.9, 0.1), floor=0.05, cap=2.0)
    other.load_state_dict(model.state_dict())
    restore_optimiser(other, restored, {name: each.clone() for name, each in optimiser_tensors(model, one).items()})
    for place in range(3, 6):
        for which, each in ((one, model), (restored, other)):
            step(which, each, place % 2, x_TBD[place])
    assert same_tensors(optimiser_tensors(model, one), optimiser_tensors(other, restored))
    assert same_tensors(model.state_dict(), other.state_dict())
