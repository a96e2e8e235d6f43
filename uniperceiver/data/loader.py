"""Batches made ahead of time by worker processes; the same batches in the same order for any number of them.

Small tensors travel from a worker as arrays, inside the message. Torch would put each of them into shared memory of its
own and hand over a file descriptor, which takes milliseconds a tensor (docs/performance.md). Large ones, the pixels,
still go that way: they would be copied through a pipe. They are put there before the message is made: multiprocessing
makes it in a thread of its own, where a failure loses the message, and the main process waits for it for ever.
"""

import atexit
import errno
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from multiprocessing.synchronize import Event
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from uniperceiver.errors import UserError

Key = TypeVar("Key", contravariant=True)
Made = TypeVar("Made", covariant=True)

_SMALL = 2**16  # bytes: what a pipe holds
_NO_ROOM = (
    "the loader's processes cannot hand over batches ({}): enlarge shared memory, /dev/shm (docker run --shm-size=8g), "
    "or set data.workers to 0, or smaller batches"
)


class Maker(Protocol[Key, Made]):
    """Makes what a key names, the same in any process."""

    def __getitem__(self, key: Key, /) -> Made: ...


class _Keyed(Dataset[Made | UserError], Generic[Key, Made]):
    """A maker as a torch data set; what a user can mend comes back as a value, without the worker's traceback."""

    def __init__(self, maker: Maker[Key, Made]) -> None:
        self.maker = maker

    def __getitem__(self, key: Key) -> Made | UserError:
        try:
            return self.maker[key]
        except UserError as error:
            return error


def load(maker: Maker[Key, Made], keys: Iterator[Key], workers: int) -> Iterator[Made]:
    """`maker[key]` for each key, in order; with workers, some batches ahead in other processes."""
    if workers == 0:
        yield from (maker[key] for key in keys)
        return
    with _told_of_full_memory():
        ending = multiprocessing.Event()
    atexit.register(ending.set)  # before multiprocessing ends the workers that are left
    try:
        loader = DataLoader(
            _Keyed(maker),
            sampler=keys,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=2,
            collate_fn=shared,
            worker_init_fn=partial(_leave_signals_to_the_main_process, ending),
        )
        # By name: an error that ends the wait, such as a signal's, must not join the workers before it is handled.
        with _told_of_full_memory():
            batches = iter(loader)
        for item in batches:
            if isinstance(item, UserError):
                raise item
            yield unpacked(item)
    finally:
        ending.set()
        atexit.unregister(ending.set)


@contextmanager
def _told_of_full_memory() -> Iterator[None]:
    """Queues and events lie in shared memory, too."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(_NO_ROOM.format(error.strerror)) from None


def _leave_signals_to_the_main_process(ending: Event, worker: int) -> None:
    """Ctrl-C and SIGTERM reach the whole process group; the main process decides when the workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    # A handler, not a blocked signal: multiprocessing's resource tracker unblocks SIGTERM. Ignoring it altogether
    # would let the main process wait for ever at its own end, where it terminates and joins its workers.
    def terminate(number: int, frame: FrameType | None) -> None:
        if ending.is_set():
            os._exit(0)

    signal.signal(signal.SIGTERM, terminate)


@dataclass(frozen=True)
class _SmallTensor:
    """A small tensor on its way."""

    array: np.ndarray


def packed(item: Any) -> Any:
    """The item with small tensors as arrays, also those inside records, lists and tuples."""

    def pack(value: Any) -> Any:
        is_small = isinstance(value, Tensor) and value.nbytes <= _SMALL
        return _SmallTensor(value.numpy()) if is_small and value.dtype != torch.bfloat16 else value  # unknown to NumPy

    return _with_leaves(item, pack)


def shared(item: Any) -> Any:
    """The item packed, its large tensors in shared memory; or what a user can mend, where there is no room for them."""

    def share(value: Any) -> Any:
        return value.share_memory_() if isinstance(value, Tensor) else value

    item = packed(item)
    try:
        return _with_leaves(item, share)
    except RuntimeError as error:
        return UserError(_NO_ROOM.format(str(error).partition("\n")[0]))


def unpacked(item: Any) -> Any:
    """What was packed."""

    def unpack(value: Any) -> Any:
        # Cloned: memory of torch's own lies where its kernels round alike.
        return torch.from_numpy(value.array).clone() if isinstance(value, _SmallTensor) else value

    return _with_leaves(item, unpack)


def _with_leaves(item: Any, change: Callable[[Any], Any]) -> Any:
    """The same structure with its leaves changed; what has nothing to change stays the same object."""
    if type(item) in (tuple, list):
        parts = [_with_leaves(part, change) for part in item]
        return item if all(new is old for new, old in zip(parts, item, strict=True)) else type(item)(parts)
    if is_dataclass(item) and not isinstance(item, type | _SmallTensor):
        values = {field.name: getattr(item, field.name) for field in fields(item) if field.init}
        parts_of = {name: _with_leaves(value, change) for name, value in values.items()}
        changes = {name: part for name, part in parts_of.items() if part is not values[name]}
        return replace(item, **changes) if changes else item
    return change(item)
