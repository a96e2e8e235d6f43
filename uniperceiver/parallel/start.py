"""LAUNCHED PROCESS -> WORLD: how a process finds the others, as torchrun and `--processes` start them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed

from uniperceiver.parallel.environment import AGREED, ALONE, ProcessLost, processes_here, was_launched
from uniperceiver.parallel.lost import register
from uniperceiver.parallel.world import World

_MOST_OF_GLOO = 256  # processes: it connects each with each, and fails above about a thousand (gloo#327)


@contextmanager
def joined(*, timeout: float, accelerated: bool) -> Iterator[World]:
    """The processes that this one was started with; a process that was started alone is alone.

    Args:
        timeout: seconds after which one that does not answer counts as lost.
        accelerated: compute on the machine's GPUs, each process on its own.
    """
    if not was_launched():
        yield World()
        return
    mine = not distributed.is_initialized()  # else a program has made the group, and will end it
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = _store(rank, timeout, attempt)
    with_gpu = accelerated and torch.cuda.is_available()
    if with_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "gloo" if not with_gpu else "cpu:gloo,cuda:nccl" if size <= _MOST_OF_GLOO else "nccl"
    if mine:
        group_store = distributed.PrefixStore("group", store)
        distributed.init_process_group(
            backend, store=group_store, rank=rank, world_size=size, timeout=timedelta(seconds=timeout)
        )
    device = torch.device("cuda" if backend == "nccl" else "cpu")
    world = World(rank=rank, size=size, local_size=processes_here(), device=device, store=store, attempt=attempt)
    register(world)
    world.largest([rank])  # all are there: the first may hold the store, and end sooner
    try:
        yield world
    except ProcessLost:
        raise  # the group is broken, and taking it apart would wait for the lost
    except BaseException as error:
        if AGREED not in getattr(error, "__notes__", ()):
            error.add_note(ALONE)
        _leave(mine)
        raise
    _leave(mine)


def _store(rank: int, timeout: float, attempt: int) -> distributed.Store:
    """The launcher's store, or one of the first process's; each attempt has keys of its own.

    With those of the attempt before, gloo would look for processes that are gone (torch's rendezvous leaves that to
    the prefix).
    """
    of_launcher = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = distributed.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=rank == 0 and not of_launcher,
        timeout=timedelta(seconds=timeout),
        wait_for_workers=False,
        multi_tenant=True,
    )
    return distributed.PrefixStore(f"uniperceiver/attempt/{attempt}", store)


def _leave(mine: bool) -> None:
    if mine and distributed.is_initialized():
        distributed.destroy_process_group()
