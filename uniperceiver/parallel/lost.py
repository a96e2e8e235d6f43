"""A process is gone: the others notice when they wait for it, hold a roll call, and say who it was.

Where a process dies, an agreement or a reduction of the others fails within moments; where one hangs, when
`parallel.timeout` is over. They answer a roll call through the launcher's store, which no process owns; whoever does
not answer is lost.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from uniperceiver.parallel.environment import ProcessLost, ended_by_itself
from uniperceiver.parallel.world import World

_PATIENCE = 5.0  # seconds for an answer
_SIGNS = ("gloo", "nccl", "connection", "socket", "timed out", "tcpstore", "peer")  # in messages about a lost process


def introduced(world: World) -> World:
    """The same world, in which every process knows the others' names: later there may be nobody to ask."""
    names = world.gather([f"host {socket.gethostname()}, pid {os.getpid()}"])
    return replace(world, names=tuple(name for (name,) in names))


@contextmanager
def missed(world: World, doing: Callable[[int], str]) -> Iterator[None]:
    """Within the block, an error that comes of a lost process becomes one line that names it.

    Args:
        doing: what the process of that number was doing, for the line: "in step 20 with words".

    Raises:
        ProcessLost: one is lost.
    """
    if world.size == 1:
        yield
        return
    try:
        yield
    except RuntimeError as error:  # those of torch.distributed, too
        if not any(sign in str(error).lower() for sign in _SIGNS):
            raise
        with ended_by_itself():
            answered = roll_call(world)
        lost = [rank for rank in range(world.size) if rank not in answered]
        if not lost:
            raise
        names = [f"process {rank} ({world.names[rank]}) is lost {doing(rank)}".rstrip() for rank in lost]
        line = f"{'; '.join(names)}; the same command goes on from the newest checkpoint"
        raise ProcessLost(line, speaks=world.rank == min(answered)) from error


def roll_call(world: World) -> set[int]:
    """The processes that answer within five seconds, this one among them."""
    answered = {world.rank}
    if world.store is None:
        return answered
    end = time.monotonic() + _PATIENCE
    try:
        world.store.set(f"roll/{world.rank}", "1")
        while len(answered) < world.size and time.monotonic() < end:
            answered |= {rank for rank in range(world.size) if world.store.check([f"roll/{rank}"])}
            time.sleep(0.1)
    except RuntimeError:  # the store is gone, and with it the machine of the first process
        answered.add(world.rank)
    return answered
