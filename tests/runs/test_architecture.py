"""What a recipe says of experts becomes the settings of a model, or one line that says why it cannot."""

import dataclasses
from typing import Any

import pytest
import yaml

from uniperceiver.config import BalanceConfig, CapacityConfig, ModelConfig, MoEConfig
from uniperceiver.errors import UserError
from uniperceiver.moe.conditions import CONDITIONS
from uniperceiver.moe.settings import MoE
from uniperceiver.runs.architecture import expert_words, experts, moe_of

LAYERS, TASKS = 4, 3
BY_SEGMENT = ("attribute", "modality", "task", "task_specific")


def resolved(condition: str = "attribute", **keys: Any) -> MoE:
    return experts(MoEConfig(condition=condition, **keys), LAYERS, TASKS)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_name_is_enough(condition: str) -> None:
    moe = resolved(condition)
    assert (moe.condition, moe.layout, moe.level, moe.tasks) == (condition, "paper", "linear", TASKS)
    assert moe.attention_layers == moe.ffn_layers == (0, 1, 2, 3)
    assert (moe.attention_gates, moe.ffn_gates, moe.noise) == (1, 1, 1.0)
    assert not moe.capacity
    assert not moe.selection_bias
    own = condition == "task_specific"  # a copy for each task, taken whole
    assert (moe.experts, moe.k, moe.renormalise) == ((TASKS, 1, False) if own else (8, 2, True))


@pytest.mark.parametrize(
    ("keys", "attention", "ffn"),
    [
        ({"layers": 2}, (0, 2), (0, 2)),
        ({"layers": 9}, (0,), (0,)),
        ({"layers": [3, 1, 3]}, (1, 3), (1, 3)),
        ({"layers": 3, "where": "attention"}, (0, 3), ()),
        ({"layers": 3, "where": "ffn"}, (), (0, 3)),
        ({"where": "ffn", "level": "ffn"}, (), (0, 1, 2, 3)),
    ],
)
def test_where_experts_are(keys: dict[str, Any], attention: tuple[int, ...], ffn: tuple[int, ...]) -> None:
    moe = resolved(**keys)
    assert (moe.attention_layers, moe.ffn_layers) == (attention, ffn)
    assert moe.level == keys.get("level", "linear")


def test_other_keys_arrive() -> None:
    balance = BalanceConfig(bias_rate=0.01)
    keys: dict[str, Any] = {"experts": 5, "k": 3, "gates": "linear", "noise": 0.5, "renormalise": False}
    moe = resolved("token", capacity=CapacityConfig(training=1.5, evaluation=2.5), balance=balance, **keys)
    assert (moe.experts, moe.k, moe.attention_gates, moe.ffn_gates) == (5, 3, 2, 2)
    assert (moe.noise, moe.renormalise, moe.selection_bias) == (0.5, False, True)
    assert (moe.training_capacity, moe.evaluation_capacity) == (1.5, 2.5)
    assert resolved("attribute", layout="release").layout == "release"
    assert not resolved("token", k=1).renormalise
    whatever: dict[str, Any] = {"experts": 1, "k": 1, "renormalise": True, "noise": 0.0}
    assert resolved("task_specific", **whatever) == resolved("task_specific", noise=0.0)


def test_a_dense_model_has_none() -> None:
    assert moe_of(ModelConfig(), MoEConfig(), TASKS) is None
    assert moe_of(ModelConfig(), MoEConfig(condition="shared", experts=1, k=7), TASKS) is None
    moe = moe_of(ModelConfig(size="tiny", layers=6), MoEConfig(condition="token", layers=5), TASKS)
    assert moe is not None
    assert moe.ffn_layers == (0, 5)


@pytest.mark.parametrize(
    ("condition", "keys", "message"),
    [
        ("atribute", {}, "moe.condition 'atribute' is unknown; did you mean 'attribute'\\?"),
        ("share", {}, "moe.condition 'share' is unknown; did you mean 'shared'\\?"),
        ("top1", {}, "moe.condition 'top1' is unknown; choose one of attribute, context, .*, shared, task, .*"),
        ("attribute", {"k": 9}, "moe.k 9 is more than moe.experts 8; choose 1 <= k <= experts"),
        ("token", {"k": 1, "renormalise": True}, "moe.renormalise: with k=1 .*; leave it out, or use moe.k=2"),
        ("token", {"layers": [0, 4]}, r"moe.layers \[0, 4\]: the model's layers are 0 to 3; name some of them"),
        ("token", {"layers": [-1]}, r"moe.layers \[-1\]: the model's layers are 0 to 3; name some of them"),
        ("token", {"layers": []}, r"moe.layers \[\]: the model's layers are 0 to 3; name some of them"),
        ("token", {"level": "ffn"}, "moe.level ffn: .*; add moe.where=ffn"),
        ("token", {"level": "ffn", "where": "attention"}, "moe.level ffn: .*; add moe.where=ffn"),
        ("token", {"level": "ffn", "where": "ffn", "gates": "linear"}, "moe.gates linear: .*; remove the key, or .*"),
    ],
)
def test_impossible_experts_are_refused(condition: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$") as caught:
        resolved(condition, **keys)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("condition", BY_SEGMENT)
@pytest.mark.parametrize("name", ["switch", "importance", "load", "z", "local_entropy", "global_entropy", "bias_rate"])
def test_there_is_nothing_to_balance_or_to_fill_without_values(condition: str, name: str) -> None:
    with pytest.raises(
        UserError, match=rf"^moe.balance.{name}: moe.condition={condition} decides for .*; remove the key"
    ):
        resolved(condition, balance=BalanceConfig(**{name: 0.5}))
    assert resolved(condition, balance=BalanceConfig(**{name: 0.0})) == resolved(condition)
    with pytest.raises(
        UserError, match=rf"^moe.capacity: moe.condition={condition} .*; remove the key, or use .*token"
    ):
        resolved(condition, capacity=CapacityConfig())


@pytest.mark.parametrize(
    ("condition", "keys", "balance", "message"),
    [
        ("expert_choice", {"capacity": CapacityConfig()}, {}, "moe.capacity: .* equally many tokens already; remove"),
        ("expert_choice", {}, {"bias_rate": 0.1}, "moe.balance.bias_rate: .* equally many tokens already; remove"),
        ("expert_choice", {}, {"load": 0.1}, "moe.balance.load: .* equally many tokens already; remove"),
        ("expert_choice", {"renormalise": True}, {}, "moe.renormalise: .* probabilities themselves; remove"),
        ("token", {"group": "batch"}, {}, "moe.group: with moe.condition=token each token has its experts; remove"),
        ("attribute", {"serve_answer": True}, {}, "moe.serve_answer: with moe.condition=attribute each token has its"),
        (
            "token",
            {"noise": 0.0},
            {"load": 0.1},
            "moe.balance.load: .* under noise; set moe.noise=1, or use moe.balance",
        ),
        (
            "context",
            {"experts": 3},
            {"global_entropy": 0.1},
            "moe.balance.least_experts: 4 is more than moe.experts 3;",
        ),
    ],
)
def test_balancing_that_cannot_work_is_refused(
    condition: str, keys: dict[str, Any], balance: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=f"^{message}") as caught:
        resolved(condition, balance=BalanceConfig(**balance), **keys)
    assert "\n" not in str(caught.value)


def test_balancing_that_can_work() -> None:
    resolved("token", balance=BalanceConfig(load=0.1))
    resolved("token", experts=3, balance=BalanceConfig(global_entropy=0.1, least_experts=3.0))
    resolved("token", experts=3, balance=BalanceConfig(least_experts=9.0))  # nobody asks for it
    resolved("expert_choice", balance=BalanceConfig(z=0.1, local_entropy=0.1), renormalise=False)
    resolved("context", balance=BalanceConfig(switch=0.0, importance=0.1, bias_rate=0.001), capacity=CapacityConfig())


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"condition": "token", "balance": BalanceConfig(bias_rate=0.001)},
        {"condition": "token", "k": 1},
        {"layout": "release", "experts": 3, "k": 3, "renormalise": False},
        {"where": "ffn", "level": "ffn", "layers": 2},
        {"where": "attention", "gates": "linear", "layers": [1, 3]},
    ],
)
def test_the_words_for_a_model_get_its_experts(keys: dict[str, Any]) -> None:
    moe, default = resolved(**keys), resolved()
    words = {key: yaml.safe_load(str(value)) for key, value in expert_words(moe, default).items()}
    again = {key.removeprefix("moe."): value for key, value in words.items() if "balance" not in key}
    balance = BalanceConfig(bias_rate=words.get("moe.balance.bias_rate", 0.0))
    assert resolved(**again, balance=balance) == moe
    assert set(again) <= {*keys, "layers", "renormalise"}
    assert bool(words) == bool(keys)


def test_no_word_gets_experts_that_no_recipe_has() -> None:
    moe = resolved()
    for other in ({"ffn_gates": 2}, {"ffn_layers": (1,)}):
        assert expert_words(dataclasses.replace(moe, **other), moe) == {}
