"""A size is a line of a table, which a program may add to."""

import pytest

from uniperceiver.config import ModelConfig, MoEConfig
from uniperceiver.errors import UserError
from uniperceiver.model.sizes import SIZES, ModelSize, size_of
from uniperceiver.runs.architecture import architecture


@pytest.mark.parametrize(
    ("name", "mend"),
    [("smal", "did you mean 'small'?"), ("giant", "choose one of base, large, nano, small, tiny")],
)
def test_an_unknown_size_is_refused(name: str, mend: str) -> None:
    with pytest.raises(UserError) as caught:
        size_of(name)
    assert str(caught.value) == f"model.size {name!r} is unknown; {mend}"


def test_a_size_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "micro", ModelSize(width=32, layers=2, heads=2, patch=4))
    arch = architecture(ModelConfig(size="micro"), MoEConfig(), tasks=1, vocabulary=10, end=8, answer=9)
    assert (arch.width, arch.layers, arch.heads, arch.ffn, arch.patch) == (32, 2, 2, 128, 4)
