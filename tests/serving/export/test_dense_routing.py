"""A graph in which all experts compute every token is the model in which tokens choose: linears and whole FFNs."""

import pytest
import torch

from tests.moe_cases import moe_model
from tests.tiny import tiny_batch
from uniperceiver.serving.export.dense_routing import EveryExpertLinear, EveryFeedForward
from uniperceiver.serving.export.graphs import model_for_export


@pytest.mark.parametrize(("level", "kind"), [("linear", EveryExpertLinear), ("ffn", EveryFeedForward)])
@pytest.mark.parametrize("condition", ["token", "context"])
def test_all_experts_together_are_those_that_are_chosen(condition: str, level: str, kind: type) -> None:
    model = moe_model(condition, where="ffn", level=level).eval()
    dense = model_for_export(model)
    assert sum(isinstance(module, kind) for module in dense.modules()) == (4 if level == "linear" else 2)
    batch = tiny_batch("image_text_retrieval")
    for sequences in (batch.inputs, batch.candidates):
        assert sequences is not None
        with torch.no_grad():
            expected, got = (each.encode(sequences, summary=True).x_BND for each in (model, dense))
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
