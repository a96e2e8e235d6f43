"""Things in pictures are made of proposals by arrays as by tensors, and asked about as the model is asked."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.exported import PICTURES, tiny_saved
from uniperceiver import UniPerceiver, UserError
from uniperceiver.data.media.pixels import Preprocess
from uniperceiver.records import Sample
from uniperceiver.records.regions import ClassTerm, Detections
from uniperceiver.runner.reading import Reading
from uniperceiver.runner.things import detections_of, seen
from uniperceiver.serving.asking.labels import labels_of_things
from uniperceiver.serving.asking.numbers import check_things
from uniperceiver.serving.export.check import difference
from uniperceiver.serving.export.graphs import ThingsGraph
from uniperceiver.serving.export.onnx_files import traced_inputs, write_onnx
from uniperceiver.serving.export.plan import plan_export
from uniperceiver.tokenizers.join import USUAL
from uniperceiver.tokenizers.regions.shape import RegionShape


def tiny_regions(**fields: Any) -> dict[str, Any]:
    """What a tiny model needs to make proposals."""
    shape = {"backbone_layers": 1, "levels": 2, "decoder": 2, "queries": 6, "tokens": 5, "points": 2, "masks": True}
    return {"regions": RegionShape(**{**shape, **fields}), "tokenizers": (*USUAL, "regions")}


def assert_alike(found: Detections, expected: Detections) -> None:
    assert found.size == expected.size
    assert found.labels == expected.labels
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    assert (found.masks is None) == (expected.masks is None)
    if found.masks is not None and expected.masks is not None:
        assert (found.masks != expected.masks).sum() <= 1e-3 * found.masks.size


@pytest.mark.parametrize("term", ["softmax", "sigmoid", "background"])
@pytest.mark.parametrize("call", ["detect", "segment"])
def test_detections_are_those_of_the_model(term: ClassTerm, call: str) -> None:
    saved = tiny_saved(("instance_segmentation",), **tiny_regions(name_bias=term == "sigmoid"))
    name, known = next(iter(saved.tasks.items()))
    known = replace(known, task=replace(known.task, class_term=term))
    model = UniPerceiver(replace(saved, tasks={name: known}))
    plan = plan_export(model.saved)
    asked = plan.tasks["instance_segmentation"]
    graph = plan.graphs[str(asked.things_graph)]
    assert isinstance(graph.module, ThingsGraph)
    names = [texts[0] for texts in asked.labels]
    c_XD = model._engine.all_candidates(plan.candidates[str(asked.vectors)]).numpy()
    views = list(
        seen([Sample(id=str(n), image=picture) for n, picture in enumerate(PICTURES)], Preprocess(**asked.view))
    )
    pixels = Reading(asked, model.codec).media(views)["pixel_values"]
    with torch.no_grad():
        outputs = [values.numpy() for values in graph.module(torch.from_numpy(pixels))]
    expected = getattr(model, call)(PICTURES, least=0.0, most=9)
    for place, view in enumerate(views):
        assert view.things is not None
        proposals, masks = [values[place] for values in outputs], call == "segment"
        found = detections_of(asked, view.things, proposals, c_XD, names, least=0.0, most=9, masks=masks)
        assert_alike(found, expected[place])


def test_a_graph_of_things_is_equal_to_the_model(tmp_path: Any) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (uniperceiver[export])")
    saved = tiny_saved(("object_detection",), **tiny_regions(masks=False))
    plan = plan_export(saved)
    graph, words = plan.graphs["detect_model.onnx"], saved.codec.size
    write_onnx(tmp_path / "detect_model.onnx", graph.module, traced_inputs(graph, None, words), 20)
    assert 0 < difference(tmp_path, "detect_model.onnx", plan, saved.model, words) <= 1e-5


def test_what_things_cannot_be_asked_for_with() -> None:
    for least, most, says in ((2, 1, "least must lie between 0 and 1"), (0.1, 0, "most must be a number")):
        with pytest.raises(UserError, match=says):
            check_things("detect", least, most)
    with pytest.raises(UserError, match="'cat' alone would be the name of every thing"):
        labels_of_things("detect", (("a",), ("b",)), ["cat"], alone=False, clean=str.lower)
    assert labels_of_things("detect", (("a",),), None, alone=False, clean=str.lower) == (("a",),)
