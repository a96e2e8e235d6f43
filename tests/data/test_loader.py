"""Batches by worker processes: the same in the same order for any number of them."""

import os
import signal
import subprocess
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


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the sender of a signal is not known here")
def test_only_the_main_process_ends_a_worker() -> None:
    made = load(Squares(), count(10), 1)
    assert next(made)[0] == 100
    (worker,) = active_children()
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)  # as a batch system does to the whole group
    assert [square for square, _, _ in islice(made, 4)] == [121, 144, 169, 196]
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0


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
