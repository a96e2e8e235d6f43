"""What is said of where a run is computed."""

import pytest
import torch

from uniperceiver import __version__
from uniperceiver.devices import has_bfloat16, machine_facts


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


@pytest.mark.parametrize(
    ("capabilities", "able"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_f": True, "amx_bf16": True}, True),
        ({"avx512_f": True, "bf16_kernels": 4}, False),  # a number says nothing
        ({}, False),
    ],
)
def test_processors_that_compute_in_bfloat16_are_known(
    capabilities: dict[str, object], able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bfloat16(torch.device("cpu")) is able
    assert not has_bfloat16(torch.device("mps"))


def test_cards_that_only_emulate_bfloat16_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert not has_bfloat16(torch.device("cuda"))
