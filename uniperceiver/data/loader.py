"""Batches made ahead of time by worker processes; the same batches in the same order for any number of them."""

import signal
from collections.abc import Iterator
from typing import TypeVar

from torch.utils.data import DataLoader, Dataset

Key = TypeVar("Key")
Made = TypeVar("Made")


class _Keyed(Dataset):
    """Anything with __getitem__ as a torch data set."""

    def __init__(self, maker: object) -> None:
        self.maker = maker

    def __getitem__(self, key: object) -> object:
        return self.maker[key]  # type: ignore[index]


def load(maker: object, keys: Iterator[Key], workers: int) -> Iterator[Made]:
    """`maker[key]` for each key, in order; with workers, some batches ahead in other processes."""
    if workers == 0:
        yield from (maker[key] for key in keys)  # type: ignore[index]
        return
    loader = DataLoader(
        _Keyed(maker),
        sampler=keys,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        prefetch_factor=2,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_signals_to_the_main_process,
    )
    yield from loader


def _as_it_is(item: object) -> object:
    return item


def _leave_signals_to_the_main_process(worker: int) -> None:
    """Ctrl-C and SIGTERM reach the whole process group; the main process decides when the workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
