"""What is said of where a run is computed."""

import pytest
import torch

from uniperceiver import __version__
from uniperceiver.devices import machine_facts


@pytest.mark.parametrize(("threads", "words"), [(1, "cpu, 1 thread"), (3, "cpu, 3 threads")])
def test_a_processor_is_named_with_its_threads(threads: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    facts = machine_facts(torch.device("cpu"))
    assert facts["device"] == words
    assert (facts["uniperceiver"], facts["torch"]) == (__version__, torch.__version__)


def test_a_graphics_card_is_named_as_its_maker_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Large Card 9")
    assert machine_facts(torch.device("cuda:1"))["device"] == "cuda:1, Large Card 9"
    assert machine_facts(torch.device("mps"))["device"] == "mps"
