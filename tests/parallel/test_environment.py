"""What a launcher says to its processes."""

import pytest

from uniperceiver.parallel.environment import place_of_process, processes_here, speaks, was_launched

LAUNCHED = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:3"])
def test_a_process_that_was_started_alone_has_all_and_speaks(device: str) -> None:
    assert place_of_process(device) == (0, 1, device)
    assert (was_launched(), speaks(), processes_here()) == (False, True, 1)


@pytest.mark.parametrize(("device", "own"), [("cpu", "cpu"), ("cuda", "cuda:1"), ("cuda:3", "cuda:3")])
def test_each_of_several_has_its_number_and_a_gpu_of_its_machine(
    device: str, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    assert place_of_process(device) == (5, 8, own)
    assert (was_launched(), speaks(), processes_here()) == (True, False, 4)
    monkeypatch.setenv("RANK", "0")
    assert speaks()


def test_one_of_one_was_not_launched_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    assert place_of_process("cuda") == (0, 1, "cuda")
