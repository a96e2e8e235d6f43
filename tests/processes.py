"""Several processes that work together, forked from the tests' own, as a launcher would start them."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from soak import forked
from uniperceiver.parallel.environment import ProcessLost
from uniperceiver.parallel.packing import pack, unpack
from uniperceiver.parallel.start import joined
from uniperceiver.parallel.world import World

SECONDS = 60  # after which a test's processes are killed


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def environments(size: int) -> list[Mapping[str, str]]:
    """What a launcher puts into the environment of each of so many processes."""
    port = free_port()
    common = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [{name: str(value) for name, value in {**common, "RANK": r, "LOCAL_RANK": r}.items()} for r in range(size)]


def start(size: int, work: Callable[[World], Any], folder: Path, timeout: float = SECONDS) -> list[forked.Child]:
    """Do the work in so many processes, each of which knows the others; what it returns goes to the file result-RANK.

    Exit codes: 0; 76 where a process is lost.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def of(rank: int, environment: Mapping[str, str]) -> int:
        os.environ |= environment
        try:
            with joined(timeout=timeout, accelerated=False) as world:
                (folder / f"result-{rank}").write_bytes(pack(work(world)))
        except ProcessLost as error:
            print(error)
            return 76
        return 0

    return [
        forked.start(lambda rank=rank, environment=environment: of(rank, environment), folder / f"streams-{rank}")
        for rank, environment in enumerate(environments(size))
    ]


def results(children: list[forked.Child], folder: Path, seconds: float = SECONDS) -> list[Any]:
    """What each of the processes returned.

    Raises:
        AssertionError: one of them failed.
        TimeoutError: one of them takes longer; it is killed.
    """
    with ended(children):
        ends = [child.wait(seconds) for child in children]
    assert not any(end.code for end in ends), "\n".join(f"{end.code}: {end.output}" for end in ends)
    return [unpack((folder / f"result-{rank}").read_bytes()) for rank in range(len(children))]


def run(size: int, work: Callable[[World], Any], folder: Path, seconds: float = SECONDS) -> list[Any]:
    """What so many processes make of a work, in their order."""
    return results(start(size, work, folder), folder, seconds)


@contextmanager
def ended(children: list[forked.Child]) -> Iterator[None]:
    """No process is left behind the block."""
    try:
        yield
    finally:
        for child in children:
            child.end()
