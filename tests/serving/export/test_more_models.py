"""Models that take longer to export: captions with experts, prompts, stored positions, questions, graphs of 8 bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exported import CLOSE, LABELS, PICTURES, difference, exported, tiny_saved
from tests.moe_cases import moe_of
from tests.runner.test_things import assert_alike, tiny_regions
from uniperceiver.data.scenes.scene import SHAPES
from uniperceiver.model.architecture import PromptShape
from uniperceiver.runner import Runner

pytestmark = pytest.mark.thorough

CAPTIONS = ("image_classification", "image_captioning")


@pytest.mark.parametrize("condition", ["attribute", "context", "token"])
def test_captions_with_experts(tmp_path: Path, condition: str) -> None:
    export = exported(tmp_path / "out", tiny_saved(CAPTIONS, moe=moe_of(condition, layers=(0,), gates=2)))
    assert difference(lambda model: model.classify(PICTURES, LABELS), export) <= CLOSE
    for beam in (1, 2, 4):
        assert export.runner.caption(PICTURES, beam) == export.model.caption(PICTURES, beam)


OTHERS: dict[str, dict[str, Any]] = {
    "whole FFNs by token": {"moe": moe_of("token", layers=(0,), where="ffn", level="ffn")},
    "experts that choose": {"moe": moe_of("expert_choice", layers=(0,))},
    "whole FFNs that choose": {"moe": moe_of("expert_choice", layers=(0,), where="ffn", level="ffn")},
    "whole FFNs by attribute": {"moe": moe_of("attribute", layers=(0,), where="ffn", k=1, level="ffn")},
    "task specific": {"moe": moe_of("task_specific", layers=(0,))},
    "stored positions": {"spatial": "table", "table_grid": 3},
    "convolutions": {"stem": "conv"},
    "prompts and a head": {"prompts": PromptShape(vectors=3, candidates=2, classes=len(SHAPES))},
    "prompts and labels": {"prompts": PromptShape(vectors=2, labels=len(SHAPES))},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_models(tmp_path: Path, kind: str) -> None:
    export = exported(tmp_path / "out", tiny_saved(CAPTIONS[:1], **OTHERS[kind]))
    assert difference(lambda model: model.classify(PICTURES, task="image_classification"), export) <= CLOSE
    assert difference(lambda model: model.encode_text(["a", "two words"], "image_classification"), export) <= CLOSE


@pytest.mark.parametrize("fields", [{}, {"encoder": 1, "attention": "dense_rpb"}], ids=["deformable", "dense"])
def test_things_in_pictures(tmp_path: Path, fields: dict[str, Any]) -> None:
    names = ("instance_segmentation", "image_classification")
    export = exported(tmp_path / "out", tiny_saved(names, **tiny_regions(**fields)))
    assert difference(lambda model: model.classify(PICTURES, task="image_classification"), export) <= CLOSE
    assert difference(lambda model: model.encode_image(PICTURES), export) <= CLOSE
    for labels, task in ((None, "instance_segmentation"), (["a cat", ["dog", "hound"]], None)):
        for kind in ("detect", "segment"):
            own = getattr(export.model, kind)(PICTURES, labels, task, least=0.0, most=7)
            others = getattr(export.runner, kind)(PICTURES, labels, task, least=0.0, most=7)
            for expected, found in zip(own, others, strict=True):
                assert_alike(found, expected)


def test_questions_about_pictures(tmp_path: Path) -> None:
    export = exported(tmp_path / "out", tiny_saved(("vqa", "visual_question_answering")))
    texts = ["is it red ?"] * 3 + ["why"]
    for task in ("vqa", "visual_question_answering"):
        apart = difference(lambda model, task=task: model.classify(PICTURES, ["yes", "no"], task, texts=texts), export)
        assert apart <= CLOSE


def test_graphs_of_8_bits_say_what_they_cost(tmp_path: Path) -> None:
    export = exported(tmp_path / "out", tiny_saved(CAPTIONS[:1]), int8=True)
    cosines = {file: graph["cosine"] for file, graph in export.report["graphs"].items() if "cosine" in graph}
    assert cosines.keys() == {"vision_model_int8.onnx", "text_model_int8.onnx"}
    assert all(0.999 <= cosine <= 1.0001 for cosine in cosines.values())
    small, whole = Runner(export.folder, int8=True).encode_image(PICTURES), export.runner.encode_image(PICTURES)
    assert np.abs(small - whole).max() > 0
    assert float((small * whole).sum(axis=1).mean()) > 0.99


def test_graphs_of_torch_are_written(tmp_path: Path) -> None:
    export = exported(tmp_path / "out", tiny_saved(CAPTIONS[:1]), to="pt2")
    assert {path.name for path in export.folder.iterdir()} == {"vision_model.pt2", "text_model.pt2"}
