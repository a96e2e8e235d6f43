"""What graphs compute becomes a likelihood: similarity to candidates, and a head where tuning has added one."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.tiny import tiny_codec
from uniperceiver.records import Sample
from uniperceiver.records.exported import ExportedTask
from uniperceiver.runner.graph_engine import GraphEngine

Z_ND = np.array([[0.6, 0.8]], dtype=np.float32)
FEATURE_ND = np.array([[3.0, -1.0]], dtype=np.float32)
C_KD = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, -0.6]], dtype=np.float32)
HEAD = {
    "head.weight": np.array([[0.1, 0.2], [0.0, -0.3], [0.5, 0.0]], dtype=np.float32),
    "head.bias": np.array([0.3, 0.0, -0.2], dtype=np.float32),
    "head.similarity": np.array([0.25], dtype=np.float32),
}


def test_a_head_adds_to_similarity_by_a_factor() -> None:
    folder: Any = SimpleNamespace(
        run=lambda graph, values: [Z_ND, FEATURE_ND], vectors=HEAD.__getitem__, exported=SimpleNamespace(width=2)
    )
    task = ExportedTask(
        name="t", inputs=("text",), scale=4.0, view={"size": 32, "length": 12}, input_graph="a.onnx", head="head"
    )
    engine = GraphEngine(folder, tiny_codec(), batch=8)
    _, likely_1K = engine.comparison(task, [Sample(id="a", text="a red circle")], C_KD)
    logits_K = 0.25 * 4.0 * C_KD @ Z_ND[0] + HEAD["head.weight"] @ FEATURE_ND[0] + HEAD["head.bias"]
    np.testing.assert_allclose(likely_1K, [np.exp(logits_K) / np.exp(logits_K).sum()], rtol=1e-5)
