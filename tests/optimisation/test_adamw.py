"""Parameter groups, the schedule, the moving average, and saving by name."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.small_run import small_recipe
from uniperceiver.config import ModelConfig, MoEConfig, OptimiserConfig
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.optimisation.adamw import (
    adamw,
    average_into,
    decays,
    learning_rate,
    optimiser_tensors,
    parameter_groups,
    restore_optimiser,
)
from uniperceiver.runs.architecture import architecture
from uniperceiver.tasks.task import TEMPERATURES

GOLDEN = Path(__file__).parents[3] / "shared" / "official" / "golden" / "misc" / "optimizer.json"


def tiny_model() -> Generalist:
    config = ModelConfig(width=16, layers=1, heads=2, max_text=8)
    arch = architecture(config, MoEConfig(), tasks=1, vocabulary=20, end=18, answer=19)
    return build(arch, TEMPERATURES, torch.Generator().manual_seed(0))


def test_only_matrices_of_linear_maps_decay() -> None:
    model = tiny_model()
    matrices = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert len(matrices) == 6  # qkv, out, two of the FFN, the patches, the head
    assert {name for name, each in model.named_parameters() if decays(name, each)} == matrices
    decayed, plain = adamw(model, OptimiserConfig(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert len(decayed["params"]) == 6
    assert len(plain["params"]) == sum(1 for _ in model.parameters()) - 6


def test_frozen_parameters_are_left_out() -> None:
    model = tiny_model()
    model.head.linear.weight.requires_grad_(False)
    assert len(adamw(model, OptimiserConfig()).param_groups[0]["params"]) == 5


def test_gates_have_their_own_rate_where_it_is_asked_for() -> None:
    config = ModelConfig(width=16, layers=1, heads=2, max_text=8)
    for condition in ("attribute", "context"):
        arch = architecture(
            config, MoEConfig(condition=condition, experts=3), tasks=1, vocabulary=20, end=18, answer=19
        )
        model = build(arch, TEMPERATURES, torch.Generator().manual_seed(0))
        assert len(adamw(model, OptimiserConfig()).param_groups) == 2
        *others, gates = adamw(model, OptimiserConfig(gate_lr=0.25, weight_decay=0.3)).param_groups
        names = {parameter: name for name, parameter in model.named_parameters()}
        assert {names[parameter] for parameter in gates["params"]} == {
            name for name in names.values() if ".router." in name
        }
        assert (gates["lr_factor"], gates["weight_decay"]) == (0.25, 0.0)
        assert [group["lr_factor"] for group in others] == [1.0, 1.0]
        assert sum(len(group["params"]) for group in (*others, gates)) == len(names)


def test_a_backbone_from_elsewhere_has_its_own_rate_where_it_is_asked_for() -> None:
    model = nn.ModuleDict({"backbone": nn.ModuleDict({"body": nn.Linear(3, 3), "down": nn.Linear(3, 3)})})
    model = nn.ModuleDict({"regions": model})
    assert len(parameter_groups(model, OptimiserConfig())) == 2
    groups = parameter_groups(model, OptimiserConfig(backbone_lr=0.1, weight_decay=0.3))
    body = model["regions"]["backbone"]["body"]
    found = {id(parameter): group for group in groups for parameter in group["params"]}
    assert len(found) == 4
    assert [(found[id(x)]["lr_factor"], found[id(x)]["weight_decay"]) for x in (body.weight, body.bias)] == [
        (0.1, 0.3),
        (0.1, 0.0),
    ]
    assert sum(len(group["params"]) for group in groups if group["lr_factor"] == 1.0) == 2


def test_the_schedule() -> None:
    config = OptimiserConfig(lr=1.0, min_lr=0.1, warmup=4)
    rates = [learning_rate(step, 12, config) for step in range(14)]
    assert rates[:5] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert rates[8] == pytest.approx(0.5)
    assert rates[6] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert rates[11:] == [0.1, 0.1, 0.1]  # the floor, also beyond the end
    assert sorted(rates[4:], reverse=True) == rates[4:]


@pytest.mark.parametrize(("warmup", "steps", "expected"), [(0, 4, 1.0), (0, 1, 1.0), (10, 4, 0.0)])
def test_the_first_step(warmup: int, steps: int, expected: float) -> None:
    assert learning_rate(0, steps, OptimiserConfig(lr=1.0, warmup=warmup)) == expected


def test_a_warm_up_longer_than_the_run_never_divides_by_zero() -> None:
    config = OptimiserConfig(lr=1.0, warmup=4)
    assert [learning_rate(step, 4, config) for step in (3, 4, 5)] == [0.75, 1.0, pytest.approx(1e-6)]


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_the_schedule_of_the_original(name: str) -> None:
    if not GOLDEN.is_file():
        pytest.skip("needs ../shared/official/golden/misc/optimizer.json")
    golden = json.loads(GOLDEN.read_text())[name]
    config = OptimiserConfig(lr=1e-3, min_lr=1e-6, warmup=golden["warmup"])
    factors = {int(step): factor for step, factor in golden["lr_factor"].items()}
    compared = [step for step in factors if step <= golden["max_iter"]]  # it rises again beyond; ours stays
    assert len(compared) > 5
    for step in compared:
        assert learning_rate(step, golden["max_iter"], config) == pytest.approx(1e-3 * factors[step], rel=1e-9), step


def test_the_groups_of_the_original() -> None:
    if not GOLDEN.is_file():
        pytest.skip("needs ../shared/official/golden/misc/optimizer.json")
    golden = json.loads(GOLDEN.read_text())["dense"]
    defaults = OptimiserConfig()
    assert [*defaults.betas, defaults.eps] == [*golden["betas"], golden["eps"]]
    decayed = {name for name, (_, decay) in golden["groups"].items() if decay}
    layers = 1 + max(int(name.split(".")[2]) for name in golden["groups"] if name.startswith("fused_encoder.layers"))
    assert len(decayed) == 4 * layers + 2  # as many as ours decay: four matrices a layer, patches, head


def loss(model: nn.Module, x_BD: torch.Tensor) -> torch.Tensor:
    return (model(x_BD) ** 2).mean()


def test_state_comes_back_by_name() -> None:
    torch.manual_seed(0)
    config = OptimiserConfig()
    x_BD = torch.randn(4, 3)
    one = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    optimiser = adamw(one, config)
    for _ in range(3):
        optimiser.zero_grad()
        loss(one[0], x_BD).backward()  # the second layer has no gradient, and so no state
        optimiser.step()
    tensors = {name: value.clone() for name, value in optimiser_tensors(one, optimiser).items()}
    assert set(tensors) == {
        f"{key}/0.{part}" for key in ("step", "exp_avg", "exp_avg_sq") for part in ("weight", "bias")
    }
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    other.load_state_dict(one.state_dict())
    restored = adamw(other, config)
    loss(other, x_BD).backward()
    restored.step()  # a state of its own, which must go
    other.load_state_dict(one.state_dict())
    restore_optimiser(other, restored, tensors)
    assert set(optimiser_tensors(other, restored)) == set(tensors)
    for model, each in ((one, optimiser), (other, restored)):
        each.zero_grad()
        loss(model, x_BD).backward()
        each.step()
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert tensors["step/0.weight"].item() == 3  # what was saved is not what goes on


def test_the_average_is_exponential() -> None:
    model = nn.Linear(2, 1, bias=False)
    average = {"weight": torch.tensor([[1.0, -2.0]])}
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 2.0]]))
    average_into(average, model, 0.75)
    torch.testing.assert_close(average["weight"], torch.tensor([[1.5, -1.0]]))
    assert not average["weight"].requires_grad


def test_the_recipe_reaches_the_optimiser() -> None:
    config = small_recipe(optimiser__betas=[0.5, 0.6], optimiser__eps=1e-3).optimiser
    optimiser = adamw(tiny_model(), config)
    assert {(group["betas"], group["eps"]) for group in optimiser.param_groups} == {((0.5, 0.6), 1e-3)}


def test_gates_do_not_decay() -> None:
    matrix = torch.zeros(3, 3)
    assert decays("encoder.blocks.0.ffn.linear1.experts.0.weight", matrix)
    for gate in ("gates.0.linear", "gates.0.embed", "pool.query"):
        assert not decays(f"encoder.blocks.0.ffn.router.{gate}.weight", matrix)


def test_convolutions_decay_and_their_biases_do_not() -> None:
    assert decays("tokenizer.tokenizers.regions.backbone.stem.0.weight", torch.zeros(4, 3, 3, 3))
    assert not decays("tokenizer.tokenizers.regions.backbone.stem.0.bias", torch.zeros(4))
    assert not decays("tokenizer.tokenizers.regions.name_bias", torch.zeros(()))


def test_the_learning_rate_is_never_above_its_peak() -> None:
    config = OptimiserConfig(lr=1e-4, min_lr=1e-3, warmup=2)
    assert max(learning_rate(step, 10, config) for step in range(12)) == 1e-4
