"""What travels between processes arrives bit for bit."""

import pytest
import torch

from uniperceiver.parallel.packing import pack, unpack

TENSORS = [
    torch.arange(6, dtype=torch.int64).view(2, 3).t(),
    torch.tensor([0.1, float("nan"), -0.0]),
    torch.tensor([True, False]),
    torch.tensor(1.5, dtype=torch.float64),
    torch.randn(3, 1, dtype=torch.bfloat16),
    torch.empty(0, 4, dtype=torch.float16),
]


@pytest.mark.parametrize("tensor", TENSORS, ids=lambda tensor: str(tensor.dtype))
def test_a_tensor_comes_back(tensor: torch.Tensor) -> None:
    back = unpack(pack({"here": [tensor, tensor[None]]}))["here"]
    for value, expected in zip(back, (tensor, tensor[None]), strict=True):
        assert (value.dtype, value.shape) == (expected.dtype, expected.shape)
        assert torch.equal(value.nan_to_num(7.0), expected.nan_to_num(7.0))


def test_plain_values_come_back() -> None:
    value = {"name": "ä\n", "numbers": [1, 0.1, None, True], "nothing": {}}
    assert unpack(pack(value)) == value
    assert unpack(pack((1, (2, 3)))) == [1, [2, 3]]


def test_keys_that_json_would_change_are_refused() -> None:
    with pytest.raises(AssertionError, match="keys"):
        pack({1: "one"})
