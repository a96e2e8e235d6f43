"""Interference of toy tasks: its sign and value, the batch that is left out, the finite differences, the memory."""

import gc
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.toys import Loss, replay_of, towards, toy_model
from uniperceiver.errors import UserError
from uniperceiver.interference import estimate as of
from uniperceiver.interference.finite_differences import finite_differences
from uniperceiver.interference.groups import ParameterGroup, groups_of
from uniperceiver.interference.products import Products, TaskLoss, products

TASKS = ("one", "same", "against")
LOSSES = (towards(1.0), towards(1.0), towards(-1.0))
BATCHES = 12


def measured(
    model: nn.Module, losses: Sequence[Loss] = LOSSES, *, pattern: str = "*.weight", batches: int = BATCHES
) -> dict[ParameterGroup, Products]:
    parameters = dict(model.named_parameters())
    groups = groups_of(parameters, pattern)
    return products(TASKS[: len(losses)], groups, parameters, replay_of(model, losses, batches))


def plainly(model: nn.Module, name: str, losses: Sequence[Loss], batches: int) -> dict[str, np.ndarray]:
    """All pairs of batches, written out: no means, nothing left over."""
    parameter = dict(model.named_parameters())[name]
    g = [
        [torch.autograd.grad(loss(model, 100 * task + b), parameter)[0].double().flatten() for b in range(batches)]
        for task, loss in enumerate(losses)
    ]
    k = len(losses)
    pairs = np.full((k, k, batches, batches), np.nan)  # [i, j, b, a]
    for i in range(k):
        for j in range(k):
            for b in range(batches):
                for a in range(batches):
                    if (i, b) != (j, a):
                        pairs[i, j, b, a] = float(g[j][a] / g[j][a].norm() @ g[i][b])
    norms = np.array([[float(gradient.norm()) for gradient in row] for row in g])
    effect, felt = np.nanmean(pairs, axis=(2, 3)), np.nanmean(pairs, axis=3)
    own = np.stack([felt[i, i] for i in range(k)])
    return {
        "effect": effect,
        "matrix": effect / effect.diagonal()[:, None],
        "mean_of_ratios": (felt / own[:, None]).mean(axis=-1),
        "cosine": np.nanmean(pairs / norms[:, None, :, None], axis=(2, 3)),
        "conflict_rate": (felt < 0).mean(axis=-1),
        "done": np.nanmean(pairs, axis=2),
    }


def test_every_figure_is_that_of_all_pairs_written_out() -> None:
    model = toy_model()
    for group, dots in measured(model).items():
        expected = plainly(model, group.name, LOSSES, BATCHES)
        estimate = of.estimate(dots)
        np.testing.assert_allclose(of.effect(dots), expected["effect"], rtol=2e-5, atol=1e-7)
        np.testing.assert_allclose(estimate.matrix_KK, expected["matrix"], rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(estimate.mean_of_ratios_KK, expected["mean_of_ratios"], rtol=2e-4, atol=1e-5)
        np.testing.assert_allclose(estimate.cosine_KK, expected["cosine"], rtol=2e-5, atol=1e-6)
        np.testing.assert_array_equal(estimate.conflict_rate_KK, expected["conflict_rate"])
        assert dots.done_KKn is not None
        np.testing.assert_allclose(np.array(dots.done_KKn), expected["done"], rtol=2e-5, atol=1e-6)


def test_tasks_that_want_the_same_help_and_opposite_ones_hurt() -> None:
    for dots in measured(toy_model(), batches=40).values():
        estimate = of.estimate(dots)
        assert estimate.matrix_KK[0, 1] == pytest.approx(1.0, abs=0.2)
        assert estimate.high_KK[0, 2] < 0
        assert estimate.low_KK[0, 1] > 0
        assert estimate.conflict_rate_KK[0, 2] > 0.8
        assert estimate.conflict_rate_KK[0, 1] == 0.0
        np.testing.assert_allclose(estimate.matrix_KK.diagonal(), 1.0)
        assert (estimate.low_KK <= estimate.matrix_KK + 1e-9).all()
        assert (estimate.matrix_KK <= estimate.high_KK + 1e-9).all()


def test_a_known_value() -> None:
    """Losses a . w: the gradient of every batch is a, so interference is cosine times the ratio of lengths, 1 by 1."""
    model = nn.Linear(2, 1, bias=False)
    along = torch.tensor([[1.0, 0.0], [3.0, 4.0], [-2.0, 0.0]])

    def loss(index: int) -> Loss:
        return lambda model, batch: (model.weight[0] * along[index]).sum()

    dots = next(iter(measured(model, [loss(0), loss(1), loss(2)], pattern="weight").values()))
    cosine_KK = np.array([[1, 0.6, -1], [0.6, 1, -0.6], [-1, -0.6, 1]])
    # u_j . g_i / u_i . g_i = cos(i, j) ||g_i|| / ||g_i||
    np.testing.assert_allclose(of.estimate(dots).matrix_KK, cosine_KK, rtol=1e-6)
    np.testing.assert_allclose(of.estimate(dots).cosine_KK, cosine_KK, rtol=1e-6)
    np.testing.assert_allclose(of.estimate(dots).low_KK, cosine_KK, rtol=1e-6)  # no batch differs from another


def test_disjoint_experts_do_not_interfere() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(toy_model() for _ in range(2))

    def through(expert: int, loss: Loss) -> Loss:
        return lambda model, batch: loss(model.experts[expert], batch)  # type: ignore[index, operator]

    model = Experts()
    parameters = dict(model.named_parameters())
    groups = groups_of(parameters, "first.weight", lambda name: name.split(".", 2)[2])
    assert [len(group.parameters) for group in groups] == [2]
    losses = [through(0, LOSSES[0]), through(1, LOSSES[1])]
    dots = products(TASKS[:2], groups, parameters, replay_of(model, losses, BATCHES))[groups[0]]
    estimate = of.estimate(dots)
    np.testing.assert_array_equal(estimate.matrix_KK, np.eye(2))
    assert estimate.low_KK[0, 1] == estimate.high_KK[0, 1] == 0.0
    np.testing.assert_array_equal(estimate.conflict_rate_KK, np.zeros((2, 2)))


def test_finite_differences_agree_in_float64() -> None:
    model, batches = toy_model().double(), 4
    parameters = dict(model.named_parameters())
    groups, replay = groups_of(parameters, "*.weight"), replay_of(model, LOSSES, batches)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    stepped = finite_differences(TASKS, groups, parameters, replay)
    for group, dots in products(TASKS, groups, parameters, replay).items():
        assert dots.done_KKn is not None
        assert stepped[group].done_KKn is not None
        np.testing.assert_allclose(np.array(stepped[group].felt_KKn), np.array(dots.felt_KKn), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(np.array(stepped[group].done_KKn), np.array(dots.done_KKn), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(of.ratio_of_means(of.effect(stepped[group])), of.estimate(dots).matrix_KK, atol=1e-4)
    assert all(torch.equal(before[name], parameter) for name, parameter in parameters.items())


@pytest.mark.parametrize("batches", [3, 9])
def test_no_more_than_k_and_two_gradients_are_held(batches: int) -> None:
    """Counted by looking at every tensor that is alive after every batch; the number of batches does not matter."""
    gc.collect()
    gc.freeze()  # what was there before is not looked at: other tests leave millions of objects
    model = nn.Linear(50, 31, bias=False)
    size, most = model.weight.numel(), 0

    def loss(sign: float) -> Loss:
        def of_batch(model: nn.Module, batch: int) -> Tensor:
            nonlocal most
            alive = {
                thing.data_ptr()
                for thing in gc.get_objects()
                if type(thing) is Tensor and thing.numel() == size and thing is not model.weight
            }
            most = max(most, len(alive))
            return (model(torch.randn(3, 50, generator=torch.Generator().manual_seed(batch))) - sign).pow(2).mean()

        return of_batch

    try:
        measured(model, [loss(1.0), loss(0.5), loss(-1.0)], pattern="weight", batches=batches)
    finally:
        gc.unfreeze()
    assert 3 <= most <= 3 + 1  # before a loss is there; its own gradient makes K + 2


def test_with_too_few_batches_there_is_no_interval() -> None:
    for dots in measured(toy_model(), batches=9).values():
        estimate = of.estimate(dots)
        assert np.isnan(estimate.low_KK).all()
        assert np.isfinite(estimate.matrix_KK).all()


def test_where_a_task_does_not_lower_its_own_loss_there_is_no_ratio() -> None:
    effect_KK = np.array([[0.5, 0.1], [0.2, -0.1]])
    ratio_KK = of.ratio_of_means(effect_KK)
    np.testing.assert_allclose(ratio_KK[0], [1.0, 0.2])
    assert np.isnan(ratio_KK[1]).all()


def test_an_own_effect_that_may_be_none_has_no_interval() -> None:
    """A tenth of the resamples say that a task does not lower its own loss: the ratio may be anything."""
    effect_SKK = np.full((100, 2, 2), 0.5)
    effect_SKK[:, 0, 0] = np.linspace(-0.095, 0.895, 100)
    for end_KK in of.ratio_interval(effect_SKK):
        assert np.isnan(end_KK[0]).all()
        np.testing.assert_allclose(end_KK[1], 1.0)


def test_a_resampled_interval_covers() -> None:
    """Of 200 measurements of toy tasks with noise, about 95 % of the intervals hold the value of very many batches."""
    rng, hits, total = np.random.default_rng(0), 0, 200
    many = [m + rng.normal(0, 0.7, (200_000, 2)) for m in ([1.0, 0.0], [0.5, 0.9])]
    expected = [(g_BD / np.linalg.norm(g_BD, axis=1, keepdims=True)).mean(0) for g_BD in many]
    true = float(expected[1] @ [1.0, 0.0]) / float(expected[0] @ [1.0, 0.0])
    for _ in range(total):
        g = [np.array([1.0, 0.0]) + rng.normal(0, 0.7, (40, 2)), np.array([0.5, 0.9]) + rng.normal(0, 0.7, (40, 2))]
        u = [g_BD / np.linalg.norm(g_BD, axis=1, keepdims=True) for g_BD in g]
        felt = [[g[i] @ u[j].mean(0) for j in range(2)] for i in range(2)]
        done = [[u[j] @ g[i].mean(0) for j in range(2)] for i in range(2)]
        for i in range(2):
            norm = np.linalg.norm(g[i], axis=1)
            felt[i][i] = (40 * felt[i][i] - norm) / 39
            done[i][i] = (40 * done[i][i] - norm) / 39
        low, high = of.interval(
            Products(norm_Kn=[np.linalg.norm(g_BD, axis=1) for g_BD in g], felt_KKn=felt, done_KKn=done)
        )
        hits += bool(low[0, 1] <= true <= high[0, 1])
    assert 181 <= hits <= 198


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda model, batch: model.first.weight.sum() * float("nan"), "task 'same', batch 0: its gradient on first"),
        (lambda model, batch: model.second.bias.sum(), "task 'same': has no gradient on first.weight; choose"),
    ],
)
def test_what_cannot_be_measured_is_said(loss: Loss, message: str) -> None:
    with pytest.raises(UserError, match=message):
        measured(toy_model(), [LOSSES[0], loss])
    model = toy_model().double()
    parameters = dict(model.named_parameters())
    with pytest.raises(UserError, match=message):
        finite_differences(TASKS, groups_of(parameters, "*.weight"), parameters, replay_of(model, [LOSSES[0], loss], 2))


def test_batches_without_gradient_count_as_zero_on_both_sides() -> None:
    """Parallel gradients, of which every other one of the first task is 0."""
    model = nn.Linear(2, 1, bias=False)

    def loss(model: nn.Module, batch: int) -> Tensor:
        return model.weight[0, 0] * float(batch % 2)

    def always(model: nn.Module, batch: int) -> Tensor:
        return model.weight[0, 0]

    estimate = of.estimate(next(iter(measured(model, [loss, always], pattern="weight").values())))
    np.testing.assert_allclose(estimate.cosine_KK[0, 1], estimate.cosine_KK[1, 0])
    np.testing.assert_allclose(estimate.cosine_KK[0, 1], 0.5)


def test_one_batch_is_too_few() -> None:
    with pytest.raises(UserError, match="task 'one': two batches or more are needed"):
        measured(toy_model(), batches=1)


def test_tasks_may_have_different_numbers_of_batches() -> None:
    model = toy_model()
    full = replay_of(model, LOSSES, 15)

    def replay() -> list[TaskLoss]:
        return [batch for batch in full() if batch.task != 1 or int(batch.batch.split()[1]) < 11]

    parameters = dict(model.named_parameters())
    for dots in products(TASKS, groups_of(parameters, "*.weight"), parameters, replay).values():
        assert [len(norm_n) for norm_n in dots.norm_Kn] == [15, 11, 15]
        assert np.isfinite(of.estimate(dots).low_KK).all()
