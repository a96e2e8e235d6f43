"""`model.routing` gives what the gates decided, item by item, whatever the order of a pass and its batches."""

from dataclasses import replace

import numpy as np
import pytest

from tests.serving.test_predictor import pictures
from tests.tasks.test_moe_candidates import predictor
from uniperceiver import UniPerceiver
from uniperceiver.errors import UserError


@pytest.mark.parametrize("condition", ["attribute", "token"])
def test_decisions_are_arrays(condition: str) -> None:
    model = predictor(condition)
    decisions = model.routing(pictures(), task="pictures")
    assert [(gate.layer, gate.part) for gate in decisions] == sorted((gate.layer, gate.part) for gate in decisions)
    for gate in decisions:
        shape = (3, len(gate.kinds_N), 4)
        assert gate.probability_BNE.shape == gate.chosen_BNE.shape == gate.weight_BNE.shape == shape
        assert set(gate.kinds_N) == {"visual"}
        np.testing.assert_allclose(gate.probability_BNE.sum(axis=2), 1, rtol=1e-5)
        assert (gate.chosen_BNE.sum(axis=2) == model.saved.arch.moe.k).all()  # type: ignore[union-attr]
        assert ((gate.weight_BNE > 0) <= gate.chosen_BNE).all()
    for place in range(3):
        for gate, alone in zip(decisions, model.routing([pictures()[place]], task="pictures"), strict=True):
            np.testing.assert_allclose(gate.probability_BNE[place : place + 1], alone.probability_BNE, atol=1e-5)


@pytest.mark.parametrize("condition", ["attribute", "token"])
def test_batches_of_texts_are_joined(condition: str) -> None:
    model, texts = predictor(condition), ["a red circle", "a"]
    apart = UniPerceiver(model.saved, batch=1).routing(texts, task="sentences")
    for gate, other in zip(model.routing(texts, task="sentences"), apart, strict=True):
        assert gate.valid_BN.tolist() == other.valid_BN.tolist()
        assert gate.valid_BN.sum(axis=1)[0] > gate.valid_BN.sum(axis=1)[1]
        np.testing.assert_allclose(gate.probability_BNE, other.probability_BNE, atol=1e-5)
        assert not gate.probability_BNE[~gate.valid_BN].any()


def test_pictures_with_texts_have_both_kinds() -> None:
    for condition in ("attribute", "token"):
        model = predictor(condition)
        task = replace(model.tasks["pictures"], inputs=("image", "text"), template="{text}")
        gates = model.routing(pictures(), task=task, texts=["a red circle", "a", "b"])
        assert all(set(gate.kinds_N) == {"visual", "text"} for gate in gates)
        visual = model.routing(pictures(), task=task)
        count = len(visual[0].kinds_N)
        if condition == "token":  # the first layer's gates have seen nothing else yet
            np.testing.assert_allclose(
                gates[0].probability_BNE[:, 1:count], visual[0].probability_BNE[:, 1:], atol=1e-4
            )


def test_models_without_gates_say_so(model: UniPerceiver) -> None:
    with pytest.raises(UserError, match="routing: a dense model, in which nothing is chosen"):
        model.routing(pictures())
    with pytest.raises(UserError, match=r"moe.condition=task_specific each task has its copy"):
        predictor("task_specific").routing(pictures(), task="pictures")
