"""Who says that a process is lost, and what is no loss."""

import pytest

from uniperceiver.parallel import lost
from uniperceiver.parallel.environment import ProcessLost
from uniperceiver.parallel.lost import missed
from uniperceiver.parallel.world import World

NAMES = ("host a, pid 1", "host b, pid 2", "host c, pid 3")


@pytest.mark.parametrize(
    ("rank", "answered", "speaks"),
    [(0, {0, 2}, True), (2, {0, 2}, False), (1, {1, 2}, True), (2, {1, 2}, False), (2, {2}, True)],
)
def test_the_first_of_those_that_are_left_speaks(
    rank: int, answered: set[int], speaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost, "roll_call", lambda world: answered)
    world = World(rank=rank, size=3, names=NAMES)
    with pytest.raises(ProcessLost) as caught, missed(world, lambda rank: f"in step 7 with task {rank}"):
        raise RuntimeError("gloo: Connection closed by peer")
    assert caught.value.speaks == speaks
    lines = [f"process {n} ({NAMES[n]}) is lost in step 7 with task {n}" for n in range(3) if n not in answered]
    assert str(caught.value) == f"{'; '.join(lines)}; the same command goes on from the newest checkpoint"


def test_where_all_answer_the_error_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost, "roll_call", lambda world: {0, 1, 2})
    with pytest.raises(RuntimeError, match=r"^gloo: no such device$"), missed(World(size=3, names=NAMES), str):
        raise RuntimeError("gloo: no such device")
