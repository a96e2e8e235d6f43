"""Batches by worker processes: the same in the same order for any number of them."""

import errno
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import count, islice
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.let_go import let_go
from tests.small_run import TASKS, small_recipe
from uniperceiver.data.loader import load, packed, unpacked
from uniperceiver.data.mix import BatchMaker
from uniperceiver.errors import UserError
from uniperceiver.runs.prepare import prepare_run


class Squares:
    """Makes key -> (key squared, process, whether Ctrl-C is left to the main process)."""

    def __getitem__(self, key: int) -> tuple[int, int, bool]:
        if key == 7:
            raise ValueError("seven is refused")
        return key * key, os.getpid(), signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_everything_comes_in_order(workers: int) -> None:
    made = list(load(Squares(), iter([3, 1, 4, 1, 5]), workers))
    assert [square for square, _, _ in made] == [9, 1, 16, 1, 25]
    processes = {process for _, process, _ in made}
    assert len(processes) == max(workers, 1)
    assert (os.getpid() in processes) == (workers == 0)
    if workers:
        assert all(left for _, _, left in made)


def test_endless_keys_are_only_asked_for_as_needed() -> None:
    asked = []

    def keys() -> object:
        for key in count(10):
            asked.append(key)
            yield key

    assert [square for square, _, _ in islice(load(Squares(), keys(), 0), 3)] == [100, 121, 144]
    assert asked == [10, 11, 12]
    made = load(Squares(), keys(), 2)
    assert [square for square, _, _ in islice(made, 3)] == [100, 121, 144]
    made.close()
    assert len(asked) < 20


class Unblocking:
    """Makes key -> key, and lets SIGTERM through, as multiprocessing's resource tracker does when it starts."""

    def __getitem__(self, key: int) -> int:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return key


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal masks here")
def test_a_signal_to_the_whole_group_ends_no_worker() -> None:
    made = load(Unblocking(), count(10), 1)
    assert next(made) == 10
    (worker,) = active_children()
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)  # as a batch system does to the whole group
    assert list(islice(made, 8)) == [*range(11, 19)]
    made.close()
    worker.join(20)
    assert worker.exitcode == 0


_LEFT_OPEN = """
from itertools import count
from uniperceiver.data.loader import load
class Same:
    def __getitem__(self, key): return key
made = load(Same(), count(), 1)
print(next(made))
"""


def test_a_process_ends_although_its_workers_are_still_there() -> None:
    done = subprocess.run([sys.executable, "-c", _LEFT_OPEN], timeout=60, check=True, capture_output=True, text=True)
    assert done.stdout == "0\n"


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_reaches_the_main_process_with_its_text(workers: int) -> None:
    with pytest.raises(ValueError, match="seven"), let_go():
        list(load(Squares(), iter([1, 7]), workers))


class _Refusing:
    """A maker whose user has something to mend."""

    def __getitem__(self, key: int) -> int:
        raise UserError(f"key {key}: mend it")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_user_can_mend_comes_without_a_traceback_of_the_worker(workers: int) -> None:
    with pytest.raises(UserError, match=r"^key 7: mend it$"), let_go():
        next(load(_Refusing(), iter([7]), workers))


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


class Pixels:
    """Makes tensors that are too large for a pipe."""

    def __getitem__(self, key: int) -> tuple[str, Tensor]:
        return "pixels", torch.full((2**17,), key, dtype=torch.uint8)


def test_full_shared_memory_is_said_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensor: Tensor) -> Tensor:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)\nC++"
        )

    assert [int(pixels[-1]) for _, pixels in load(Pixels(), iter([3, 4]), 1)] == [3, 4]
    monkeypatch.setattr(Tensor, "share_memory_", full)  # workers are forks of this process
    message = r"cannot hand over batches \(unable to allocate .* \(28\)\): enlarge shared memory, /dev/shm .*"
    with pytest.raises(UserError, match=message), let_go():
        list(load(Pixels(), iter([3, 4]), 1))


def test_without_room_for_queues_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("multiprocessing.Event", full)
    with pytest.raises(UserError, match=r"cannot hand over batches \(No space left on device\): enlarge shared memory"):
        list(load(Pixels(), iter([3]), 1))


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


def test_what_was_packed_lies_in_memory_of_torch() -> None:
    """Arrays that come from another process begin anywhere, and some kernels round otherwise there."""
    tensors = [torch.arange(size, dtype=torch.float32) for size in (1, 3, 5, 7, 9)]
    arrived = pickle.loads(pickle.dumps(packed(tensors)))
    there = unpacked(arrived)
    assert all(torch.equal(one, other) for one, other in zip(there, tensors, strict=True))
    assert all(value.data_ptr() % 64 == 0 for value in there)
    assert not any(np.shares_memory(value.numpy(), small.array) for value, small in zip(there, arrived, strict=True))
