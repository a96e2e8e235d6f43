"""Batches by worker processes: the same in the same order for any number of them."""

import os
import signal
import subprocess
import sys
from itertools import count, islice
from multiprocessing import active_children

import pytest

from uniperceiver.data.loader import load
from uniperceiver.errors import UserError


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
    with pytest.raises(ValueError, match="seven"):
        list(load(Squares(), iter([1, 7]), workers))


class _Refusing:
    """A maker whose user has something to mend."""

    def __getitem__(self, key: int) -> int:
        raise UserError(f"key {key}: mend it")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_user_can_mend_comes_without_a_traceback_of_the_worker(workers: int) -> None:
    with pytest.raises(UserError) as error:
        next(load(_Refusing(), iter([7]), workers))
    assert str(error.value) == "key 7: mend it"
