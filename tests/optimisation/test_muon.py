"""Muon for the encoder's matrices and AdamW for the rest, as torch's own two optimisers have it."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.small_run import log_lines, small_recipe, train
from uniperceiver.config import ModelConfig, MoEConfig, OptimiserConfig
from uniperceiver.errors import UserError
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.optimisation.muon import MuonAdamW, _iterated, muon, orthogonal
from uniperceiver.runs.architecture import architecture
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.task import TEMPERATURES

CONFIG = OptimiserConfig(kind="muon", lr=0.01, muon_lr=2.0, weight_decay=0.1)


def tiny_model(condition: str = "shared") -> Generalist:
    config = ModelConfig(width=16, layers=1, heads=2, max_text=8, stem="conv")
    moe = MoEConfig(condition=condition, experts=3)
    arch = architecture(config, moe, tasks=1, vocabulary=20, end=18, answer=19)
    return build(arch, TEMPERATURES, torch.Generator().manual_seed(0))


def give_gradients(model: nn.Module, step: int) -> None:
    for place, parameter in enumerate(model.parameters()):
        parameter.grad = torch.randn(parameter.shape, generator=torch_stream(step, place))


def matrices(count: int, rows: int, columns: int) -> Tensor:
    return torch.randn(count, rows, columns, generator=torch_stream(0, rows, columns))


@pytest.mark.parametrize("shape", [(12, 12), (24, 8), (8, 24)])
def test_singular_values_come_near_1_and_singular_vectors_stay(shape: tuple[int, int]) -> None:
    given = matrices(3, *shape)
    made = orthogonal(given)
    u, _, v = torch.linalg.svd(given, full_matrices=False)
    values = u.mT @ made @ v.mT
    assert (values - torch.diag_embed(values.diagonal(dim1=1, dim2=2))).abs().max() < 1e-3
    assert ((values.diagonal(dim1=1, dim2=2) > 0.5) & (values.diagonal(dim1=1, dim2=2) < 1.3)).all()
    for one, alone in zip(given, made, strict=True):
        torch.testing.assert_close(orthogonal(one[None])[0], alone, atol=1e-5, rtol=0)
    assert not orthogonal(torch.zeros(1, *shape)).any()


@pytest.mark.parametrize("spread", [1.0, 1e-6])
def test_both_ways_to_iterate_agree(spread: float) -> None:
    u, _, v = torch.linalg.svd(matrices(2, 12, 30), full_matrices=False)
    values = torch.logspace(0.0, float(torch.tensor(spread).log10()), 12)
    given = u * values @ v
    given = given / torch.linalg.matrix_norm(given, keepdim=True)
    plain = _iterated(given)
    assert (orthogonal(given) - plain).norm() < 1e-3 * plain.norm()
    torch.testing.assert_close(orthogonal(given.mT), orthogonal(given).mT)


@pytest.mark.parametrize("condition", ["shared", "attribute", "token"])
def test_the_matrices_of_the_encoder_but_for_those_of_gates_and_kernels(condition: str) -> None:
    model = tiny_model(condition)
    (matrix_group,) = [group for group in muon(model, CONFIG).param_groups if group["orthogonal"]]
    names = {parameter: name for name, parameter in model.named_parameters()}
    taken = {names[parameter] for parameter in matrix_group["params"]}
    linears = {
        f"{name}.weight"
        for name, module in model.encoder.named_modules(prefix="encoder")
        if isinstance(module, nn.Linear) and ".router." not in name
    }
    kernels = {f"tokenizer.patches.project.layers.{place}.weight" for place in (0, 3, 6)}
    assert taken == linears | kernels
    assert len(linears) == (4 if condition == "shared" else 12)
    grouped = [parameter for group in muon(model, CONFIG).param_groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(model.parameters()))


def test_it_is_what_torch_has() -> None:
    model = tiny_model()
    other = copy.deepcopy(model)
    ours = muon(model, CONFIG)
    decayed, plain, taken = ours.param_groups
    twins = dict(zip(model.parameters(), other.parameters(), strict=True))
    adamw = torch.optim.AdamW(
        [
            {"params": [twins[p] for p in group["params"]], "weight_decay": decay}
            for group, decay in ((decayed, 0.1), (plain, 0.0))
        ],
        lr=0.01,
        betas=CONFIG.betas,
        eps=CONFIG.eps,
        fused=True,
    )
    matrices_of = {
        p: nn.Parameter(twins[p].detach().flatten(1).clone()) for p in taken["params"]
    }  # torch has no kernels
    torchs = torch.optim.Muon(
        list(matrices_of.values()), lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for group in ours.param_groups:
        group["lr"] = 0.01 * group["lr_factor"]
    for step in range(4):
        for each in (model, other):
            give_gradients(each, step)
        for parameter, matrix in matrices_of.items():
            assert parameter.grad is not None
            matrix.grad = parameter.grad.flatten(1).clone()
        for optimiser in (ours, adamw, torchs):
            optimiser.step()
    begun = tiny_model()
    for (name, parameter), before in zip(model.named_parameters(), begun.parameters(), strict=True):
        twin = twins[parameter]
        if parameter in matrices_of:  # torch's iterations are in bfloat16
            twin = matrices_of[parameter].view_as(parameter)
            moved, far = (twin - before).norm(), (parameter - twin).norm()
            assert far < 0.02 * moved, name
        else:
            assert torch.equal(parameter, twin), name


def test_what_has_no_gradient_stays_with_its_momentum() -> None:
    model = tiny_model("attribute")
    optimiser = muon(model, CONFIG)
    give_gradients(model, 0)
    optimiser.step()
    expert = model.encoder.blocks[0].ffn.linear1.experts[1].weight  # type: ignore[union-attr, index]
    before, momentum = expert.detach().clone(), optimiser.state[expert]["momentum"].clone()
    give_gradients(model, 1)
    expert.grad = None
    optimiser.step()
    assert torch.equal(expert, before)
    assert torch.equal(optimiser.state[expert]["momentum"], momentum)


def test_what_adamw_has_updated_before_goes_on_from_its_first_moment() -> None:
    begun, moment = matrices(2, 12, 8)
    weight, twin = nn.Parameter(begun.clone()), nn.Parameter(begun.clone())
    group = {"weight_decay": 0.1, "orthogonal": True}
    ours, other = (MuonAdamW([{"params": [each], **group}], CONFIG) for each in (weight, twin))
    ours.state[weight] = {"exp_avg": moment.clone(), "exp_avg_sq": moment**2, "step": torch.tensor(3.0)}
    other.state[twin] = {"momentum": moment.clone()}
    weight.grad = twin.grad = matrices(3, 12, 8)[2]
    ours.step()
    other.step()
    assert torch.equal(weight, twin)
    assert set(ours.state[weight]) == {"momentum"}


def test_updates_have_the_size_of_those_of_adamw() -> None:
    weight = nn.Parameter(torch.zeros(96, 24))
    optimiser = MuonAdamW([{"params": [weight], "weight_decay": 0.0, "orthogonal": True}], OptimiserConfig(lr=1.0))
    weight.grad = matrices(1, 96, 24)[0]
    optimiser.step()
    assert 0.15 < float(weight.detach().square().mean().sqrt()) < 0.25


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_run_learns_with_it_and_its_matrices_have_their_own_rate(tmp_path: Path, precision: str) -> None:
    recipe = small_recipe(
        ("colours",),
        steps=60,
        sampling__tasks_per_step=1,
        tasks__colours__batch=12,
        model__stem="conv",
        optimiser__kind="muon",
        optimiser__lr=0.003,
        optimiser__precision=precision,
    )
    run = train(tmp_path, recipe)
    losses = [line["colours/loss"] for line in log_lines(tmp_path, "train") if "colours/loss" in line]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    rates = [group["lr"] / run.state.optimiser.param_groups[0]["lr"] for group in run.state.optimiser.param_groups]
    assert rates == pytest.approx([1.0, 1.0, 3.0])
    assert 0 < log_lines(tmp_path, "train")[1]["lr"] <= recipe.optimiser.lr


def test_methods_with_an_optimiser_of_their_own_refuse_another(tmp_path: Path) -> None:
    for method, mode in (("tbgn", "unmixed"), ("own_moments", "mixed")):
        recipe = small_recipe(optimiser__kind="muon", balance__method=method, sampling__mode=mode)
        with pytest.raises(
            UserError, match=f"balance.method={method}: has an optimiser of its own; remove optimiser.kind"
        ):
            train(tmp_path / method, recipe)
