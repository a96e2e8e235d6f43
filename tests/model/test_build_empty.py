"""A model without weights has all names and shapes, takes no memory, and torch's compiler is not loaded for it."""

import subprocess
import sys

import pytest

from tests.tiny import tiny_architecture
from uniperceiver.model.architecture import PromptShape
from uniperceiver.model.build import build, empty_model
from uniperceiver.moe.settings import MoE
from uniperceiver.tasks.task import TEMPERATURES

_CODE = """
import sys
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import empty_model
arch = Architecture(width=16, layers=2, heads=2, ffn=24, patch=8, vocabulary=20, end=1, answer=2, spatial="table")
empty_model(arch, ["caption"])
assert "sympy" not in sys.modules
"""


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"spatial": "table"},
        {"moe": MoE(condition="attribute", experts=3, attention_layers=(1,), ffn_layers=(0, 1), ffn_gates=2)},
        {"prompts": PromptShape(vectors=2, candidates=3, classes=4, labels=4)},
    ],
)
def test_names_and_shapes_are_those_of_a_model(fields: dict[str, object]) -> None:
    arch = tiny_architecture(**fields)
    empty, whole = empty_model(arch, TEMPERATURES), build(arch, TEMPERATURES)
    assert {name: each.shape for name, each in empty.state_dict().items()} == {
        name: each.shape for name, each in whole.state_dict().items()
    }
    assert {name: each.requires_grad for name, each in empty.named_parameters()} == {
        name: each.requires_grad for name, each in whole.named_parameters()
    }
    assert {name for name, each in empty.named_parameters() if not each.is_meta} <= {"tokenizer.patches.spatial.table"}


@pytest.mark.slow
def test_the_compiler_is_not_loaded() -> None:
    subprocess.run([sys.executable, "-c", _CODE], check=True)
