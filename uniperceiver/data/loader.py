"""Batches made ahead of time by worker processes; the same batches in the same order for any number of them."""

import atexit
import multiprocessing
import os
import signal
from collections.abc import Iterator
from functools import partial
from multiprocessing.synchronize import Event
from types import FrameType
from typing import Generic, Protocol, TypeVar

from torch.utils.data import DataLoader, Dataset

from uniperceiver.data.parcel import packed, unpacked
from uniperceiver.errors import UserError

Key = TypeVar("Key", contravariant=True)
Made = TypeVar("Made", covariant=True)


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
    ending = multiprocessing.Event()
    atexit.register(ending.set)  # before multiprocessing ends the workers that are left
    try:
        loader = DataLoader(
            _Keyed(maker),
            sampler=keys,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=2,
            collate_fn=packed,
            worker_init_fn=partial(_leave_signals_to_the_main_process, ending),
        )
        # By name: an error that ends the wait, such as a signal's, must not join the workers before it is handled.
        batches = iter(loader)
        for item in batches:
            if isinstance(item, UserError):
                raise item
            yield unpacked(item)
    finally:
        ending.set()
        atexit.unregister(ending.set)


def _leave_signals_to_the_main_process(ending: Event, worker: int) -> None:
    """Ctrl-C and SIGTERM reach the whole process group; the main process decides when the workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    # A handler, not a blocked signal: multiprocessing's resource tracker unblocks SIGTERM. Ignoring it altogether
    # would let the main process wait for ever at its own end, where it terminates and joins its workers.
    def terminate(number: int, frame: FrameType | None) -> None:
        if ending.is_set():
            os._exit(0)

    signal.signal(signal.SIGTERM, terminate)
