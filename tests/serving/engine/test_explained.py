"""What an answer is made of: cosines and a temperature give its probabilities, and gates what was computed."""

import numpy as np
import pytest
import torch

from tests.serving.test_predictor import pictures
from tests.tasks.test_moe_candidates import predictor
from uniperceiver import UniPerceiver
from uniperceiver.errors import UserError

LABELS = ["red", ["a green thing", "green"], "blue"]


@pytest.mark.parametrize("condition", ["attribute", "task_specific"])
def test_cosines_over_the_temperature_are_the_probabilities(condition: str) -> None:
    model = UniPerceiver(predictor(condition).saved, batch=2)
    why = model.explain(pictures(), task="pictures")
    assert why.labels == tuple(model.labels("pictures"))
    assert why.cosine_NK.shape == (3, len(why.labels))
    assert why.cosine_NK.abs().max() <= 1
    torch.testing.assert_close((why.cosine_NK / why.temperature).softmax(dim=1), why.probability_NK)
    torch.testing.assert_close(why.probability_NK, model.classify(pictures(), task="pictures"))


def test_gates_are_those_of_the_same_pass() -> None:
    model = predictor("token")
    why, gates = model.explain(pictures(), task="pictures"), model.routing(pictures(), task="pictures")
    assert len(why.decisions) == len(gates) > 0
    for decision, gate in zip(why.decisions, gates, strict=True):
        np.testing.assert_allclose(decision.probability_BNE, gate.probability_BNE, atol=1e-6)


def test_a_dense_model_has_labels_and_no_gates(model: UniPerceiver) -> None:
    why = model.explain(pictures(), LABELS)
    assert (why.labels, why.decisions) == (("red", "a green thing", "blue"), [])
    torch.testing.assert_close(why.probability_NK, model.classify(pictures(), LABELS))
    assert model.explain([], LABELS).cosine_NK.shape == (0, 3)


def test_it_names_itself(model: UniPerceiver) -> None:
    with pytest.raises(UserError, match=r"^explain: give labels="):
        model.explain(pictures())
