"""Patterns choose parameters; experts of one matrix are one group."""

import pytest

from tests.moe_cases import moe_model
from tests.tiny import tiny_model
from uniperceiver.config import InterferenceConfig
from uniperceiver.errors import UserError
from uniperceiver.interference.groups import ParameterGroup, groups_of
from uniperceiver.model.upcycle import dense_name

DEFAULT = InterferenceConfig().parameters


def names_of(routing: str) -> list[str]:
    model = tiny_model() if routing == "shared" else moe_model(routing)
    return [name for name, _ in model.named_parameters()]


def test_the_default_is_the_second_ffn_matrix_of_every_layer() -> None:
    groups = groups_of(names_of("shared"), DEFAULT, dense_name)
    assert groups == tuple(
        ParameterGroup(name=name, layer=layer, parameters=(name,))
        for layer in (0, 1)
        for name in [f"encoder.blocks.{layer}.ffn.linear2.weight"]
    )


@pytest.mark.parametrize("routing", ["task", "attribute", "token", "task_specific"])
def test_all_experts_of_a_matrix_are_one_group(routing: str) -> None:
    groups = groups_of(names_of(routing), DEFAULT, dense_name)
    assert [group.name for group in groups] == [f"encoder.blocks.{layer}.ffn.linear2.weight" for layer in (0, 1)]
    assert all(len(group.parameters) > 1 for group in groups)
    assert all(".experts." in name for group in groups for name in group.parameters)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("encoder.blocks.1", ["encoder.blocks.1"]),
        ("encoder.blocks.*", ["encoder.blocks.0", "encoder.blocks.1"]),
        ("encoder.blocks.*.attention", ["encoder.blocks.0.attention", "encoder.blocks.1.attention"]),
        ("encoder.blocks.0.*.router", ["encoder.blocks.0.attention.router", "encoder.blocks.0.ffn.router"]),
        ("encoder", ["encoder"]),
        ("head.*.weight", ["head.norm.weight", "head.linear.weight"]),
    ],
)
def test_a_pattern_is_the_beginning_of_names(pattern: str, expected: list[str]) -> None:
    names = names_of("attribute")
    groups = groups_of(names, pattern, dense_name)
    assert [group.name for group in groups] == expected
    for group in groups:
        assert list(group.parameters) == [
            name for name in names if dense_name(name) == group.name or dense_name(name).startswith(f"{group.name}.")
        ]


def test_a_group_of_no_layer_says_so() -> None:
    assert [group.layer for group in groups_of(names_of("shared"), "head.linear.weight")] == [None]
    assert [group.layer for group in groups_of(names_of("attribute"), "encoder.blocks.1.ffn.router")] == [1]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("encoder.blocks.*.ffn.linear3.weight", "encoder.blocks.*.ffn.linear2.weight"),
        ("encoder.block.*.attention", "encoder.blocks.*.attention"),
        ("encodr", "encoder"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(pattern: str, meant: str) -> None:
    with pytest.raises(UserError, match="parameters: no parameter's name begins with") as caught:
        groups_of(names_of("shared"), pattern)
    assert f"did you mean {meant!r}?" in str(caught.value)
