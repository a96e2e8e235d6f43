"""What is refused of a written graph: numbers that are none, experts that are missing, 8 bits that change too much."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import VIEW, tiny_codec
from uniperceiver.serving.export import check, int8
from uniperceiver.serving.export.graphs import Layout


def test_a_number_that_is_none_is_as_far_away_as_can_be() -> None:
    x = torch.tensor([[0.5, 1.0]])
    assert check._apart(x, torch.tensor([[0.5, 0.75]])) == 0.25
    assert check._apart(x, torch.tensor([[0.5, float("nan")]])) > check.GREATEST
    assert check._apart(torch.tensor([[float("inf"), 1.0]]), x) > check.GREATEST


class Session:
    """A graph that turns a picture into its mean colour; one of 8 bits has it turned by an angle."""

    def __init__(self, path: Path) -> None:
        self.angle = 0.3 if path.name == "int8.onnx" else 0.0

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="pixel_values")]

    def run(self, _: None, values: dict[str, np.ndarray]) -> list[np.ndarray]:
        red, green, _ = values["pixel_values"].mean(axis=(2, 3)).T
        at = np.arctan2(green, red) + self.angle
        return [np.stack([np.cos(at), np.sin(at)], axis=1).astype(np.float32)]


def test_8_bits_are_compared_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "session_of", Session)
    whole, small = Path("whole.onnx"), Path("int8.onnx")
    layout = Layout(media=("image",), size=32)
    assert int8.cosine(whole, whole, layout, VIEW, tiny_codec(), items=3) == pytest.approx(1.0)
    assert int8.cosine(whole, small, layout, VIEW, tiny_codec(), items=3) == pytest.approx(np.cos(0.3))
