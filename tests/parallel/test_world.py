"""Small agreements, with two and three real processes; one process makes no collective at all."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn

from tests import processes
from uniperceiver.errors import UserError
from uniperceiver.parallel.environment import AGREED
from uniperceiver.parallel.lost import missed
from uniperceiver.parallel.replicas import add_up
from uniperceiver.parallel.world import World
from uniperceiver.training.stop import Stopped

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def _agreed(world: World, **errors: BaseException) -> list[Any]:
    """What comes out of a block in which processes raise errors, by their numbers."""
    try:
        with world.together(Stopped, UserError):
            if (error := errors.get(f"of_{world.rank}")) is not None:
                raise error
    except (UserError, Stopped) as error:
        return [type(error).__name__, str(error), AGREED in error.__notes__]
    return []


def _small_agreements(world: World) -> dict[str, Any]:
    world.tell(f"from {world.rank}")
    largest = world.largest([world.rank, -world.rank, 7])
    return {
        "largest": largest,
        "sum": world.sum_(torch.tensor([1.0, float(world.rank)])),
        "gather": world.gather({"rank": world.rank, "values": torch.arange(world.rank)}),
        "first": world.from_first(lambda: {"made by": world.rank, "long": "x" * 100_000}),
        "told": [world.was_told(f"from {world.size - 1}"), world.was_told("nothing")],
        "fine": _agreed(world),
        "refused": _agreed(world, of_1=UserError("mend it")),
        "stopped": _agreed(world, of_0=Stopped()),
        "both": _agreed(world, of_0=Stopped(), of_1=UserError("mend it")),
        "sums": _sums(world),
    }


def _sums(world: World) -> dict[str, Any]:
    """Gradients of three parameters: the first of all processes, the second of the last one, the third of none."""
    parameters = {name: nn.Parameter(torch.zeros(size)) for name, size in (("a", 2), ("b", 3), ("c", 1))}
    gradients = {"a": torch.full((2,), 1.0 + world.rank)}
    if world.rank == world.size - 1:
        gradients["b"] = torch.arange(3.0)
    return add_up(parameters, gradients, world)


@pytest.mark.parametrize("size", [2, 3])
def test_processes_agree(tmp_path: Path, size: int) -> None:
    for result in processes.run(size, _small_agreements, tmp_path):
        assert result["largest"] == [size - 1, 0, 7]
        assert result["sum"].tolist() == [size, size * (size - 1) / 2]
        assert [part["rank"] for part in result["gather"]] == list(range(size))
        assert [part["values"].tolist() for part in result["gather"]] == [list(range(rank)) for rank in range(size)]
        assert result["first"] == {"made by": 0, "long": "x" * 100_000}
        assert result["told"] == [True, False]
        assert result["fine"] == []
        assert result["refused"] == ["UserError", "mend it", True]
        assert result["stopped"] == ["Stopped", "", True]
        assert result["both"] == ["UserError", "mend it", True]
        assert list(result["sums"]) == ["a", "b"]
        assert result["sums"]["a"].tolist() == [size * (size + 1) / 2] * 2
        assert result["sums"]["b"].tolist() == [0.0, 1.0, 2.0]


def test_one_process_makes_no_collective(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("all_reduce", "all_gather", "broadcast"):
        monkeypatch.setattr(distributed, name, None)
    world, value = World(), torch.ones(2)
    assert world.largest([3, 4]) == [3, 4]
    assert world.sum_(value) is value
    assert world.gather(value)[0] is value
    assert world.from_first(lambda: value) is value
    assert not world.was_told("anything")
    with pytest.raises(UserError, match="as it is") as caught, world.together(UserError):
        raise UserError("as it is")
    assert not hasattr(caught.value, "__notes__")
    with pytest.raises(RuntimeError, match="gloo"), missed(world, str):
        raise RuntimeError("gloo")


def _dies_in_its_third_round(world: World) -> None:
    for number in range(5):
        with missed(world, lambda rank, number=number: f"in step {number} with task {rank}"):
            if (world.rank, number) == (1, 3):
                os.kill(os.getpid(), signal.SIGKILL)
            world.largest([number])


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    children = processes.start(3, _dies_in_its_third_round, tmp_path)
    begun = time.monotonic()
    with processes.ended(children):
        ends = [child.wait(processes.SECONDS) for child in children]
    assert [end.code for end in ends] == [76, -signal.SIGKILL, 76]
    for end in (ends[0], ends[2]):
        assert f"pid {children[1].pid}) is lost in step 3 with task 1; the same command goes on" in end.output
        assert "process 0" not in end.output
        assert "process 2" not in end.output
    assert time.monotonic() - begun < 20


def _fails_alone(world: World) -> str:
    with pytest.raises(RuntimeError, match="own fault"), missed(world, str):
        raise RuntimeError("its own fault")
    return "went on"


def test_an_error_of_its_own_is_no_loss(tmp_path: Path) -> None:
    assert processes.run(2, _fails_alone, tmp_path) == ["went on"] * 2
