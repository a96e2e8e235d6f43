"""What loader processes hand over arrives as it was."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.small_run import TASKS, small_recipe
from uniperceiver.data.loader import load
from uniperceiver.data.mix import BatchMaker
from uniperceiver.data.parcel import packed, unpacked
from uniperceiver.runs.prepare import prepare_run


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A record as batches are, with whatever may be in one."""

    small: Tensor
    large: Tensor
    names: tuple[str, ...] = ("a", "b")
    array: np.ndarray | None = None
    inner: "Thing | None" = None


def thing(number: int) -> Thing:
    small = torch.arange(6).reshape(2, 3) + number
    large = torch.arange(20_000).float() + number
    inner = Thing(small=small.t(), large=large.bfloat16(), array=np.arange(3))
    return Thing(small=small > 2, large=large, inner=inner)


class Things:
    """Makes key -> things in lists and tuples."""

    def __getitem__(self, key: int) -> tuple[int, list[Thing], None]:
        return key, [thing(key), thing(key + 1)], None


def leaves(item: Any) -> Iterator[Any]:
    """Everything in an item that is no structure."""
    if isinstance(item, tuple | list):
        for each in item:
            yield from leaves(each)
    elif is_dataclass(item):
        for field in fields(item):
            yield from leaves(getattr(item, field.name))
    else:
        yield item


def assert_same(found: Any, expected: Any) -> None:
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        assert type(one) is type(other)
        if isinstance(one, Tensor):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
        elif isinstance(one, np.ndarray):
            assert np.array_equal(one, other)
        else:
            assert one == other


def test_only_small_tensors_are_packed_and_all_come_back() -> None:
    item = Things()[5]
    wrapped = packed(item)
    tensors = [each for each in leaves(wrapped) if isinstance(each, Tensor)]
    assert [each.numel() for each in tensors] == [20_000] * 4  # two of them bfloat16
    assert tensors[0] is item[1][0].large
    assert_same(unpacked(wrapped), item)
    assert wrapped[2] is None


def test_an_item_without_tensors_is_not_copied() -> None:
    item = ("a", ["b", ("c",)], {"d": 1}, None)
    assert packed(item) is item
    assert unpacked(item) is item


def test_workers_hand_over_what_was_made() -> None:
    made = load(Things(), count(3), 2)
    for key in range(3, 8):
        found = next(made)
        assert_same(found, Things()[key])
        found[1][0].small.fill_(True)  # it is ours
    made.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_of_all_kinds_are_those_of_this_process(tmp_path: Path, workers: int) -> None:
    mixture = prepare_run(small_recipe(tuple(TASKS)), tmp_path, tmp_path / "run", quiet=True).mixture
    start = [0] * len(mixture.sets)
    here, there = (load(BatchMaker(mixture), mixture.endless(0, start), each) for each in (0, workers))
    for _ in range(12):
        assert_same(next(there), next(here))
    there.close()  # type: ignore[attr-defined]
