"""Settings of experts that contradict each other are refused wherever they come from."""

from dataclasses import asdict
from typing import Any

import pytest

from uniperceiver.errors import UserError
from uniperceiver.moe.settings import MoE, check
from uniperceiver.strict import parse


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 9}, "moe.k 9 is more than moe.experts 8; choose 1 <= k <= experts"),
        ({"experts": 1}, "moe.k 2 is more than moe.experts 1; choose 1 <= k <= experts"),
        ({"k": 1}, "moe.renormalise: with k=1 .* no gradient; leave it out, or use moe.k=2"),
        ({"level": "ffn", "attention_layers": (0,)}, "moe.level ffn: .* no place in attention; add moe.where=ffn"),
    ],
)
def test_contradictions(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$") as caught:
        check(MoE(**{"condition": "token", **fields}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"k": 1, "renormalise": False},
        {"k": 8},
        {"experts": 1, "k": 1, "renormalise": False},
        {"level": "ffn", "ffn_layers": (0, 2)},
    ],
)
def test_possible_settings_are_returned_as_they_are(fields: dict[str, Any]) -> None:
    settings = MoE(**{"condition": "token", **fields})
    assert check(settings) is settings


@pytest.mark.parametrize(
    ("key", "value"),
    [("experts", 0), ("k", 0), ("noise", -1.0), ("training_capacity", 0.0), ("tasks", 0), ("level", "x")],
)  # fmt: skip
def test_a_wrong_value_in_a_saved_model_is_named(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^config.json: key '{key}' has a wrong value {value!r}"):
        parse(MoE, {"condition": "token", key: value}, "config.json")


def test_a_limit_in_training_or_evaluation_is_a_capacity() -> None:
    assert not MoE(condition="token").capacity
    assert MoE(condition="token", training_capacity=1.0).capacity
    assert MoE(condition="token", evaluation_capacity=2.0).capacity


def test_config_json_has_the_same_keys_in_the_same_order() -> None:
    assert list(asdict(MoE(condition="token"))) == [
        "condition",
        "layout",
        "experts",
        "k",
        "attention_layers",
        "ffn_layers",
        "level",
        "attention_gates",
        "ffn_gates",
        "noise",
        "renormalise",
        "training_capacity",
        "evaluation_capacity",
        "selection_bias",
        "tasks",
        "kinds",  # these are left out of the file where they are the usual ones
        "group",
        "serve_answer",
    ]
    assert list(MoE(condition="token").to_json())[-2:] == ["selection_bias", "tasks"]
    said = MoE(condition="expert_choice", group="batch", serve_answer=True)
    assert list(said.to_json())[-2:] == ["group", "serve_answer"]
    assert parse(MoE, said.to_json(), "config.json") == said
    with pytest.raises(UserError, match="key 'condition' is missing"):
        parse(MoE, {"experts": 4}, "config.json")
