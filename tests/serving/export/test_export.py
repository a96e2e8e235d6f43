"""What is exported, what is shared, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.exported import CLOSE, LABELS, PICTURES, ExportedModel, difference, exported, files_of, tiny_saved
from tests.moe_cases import moe_of
from uniperceiver import UniPerceiver, UserError
from uniperceiver.serving.export import check
from uniperceiver.serving.export.export import checked
from uniperceiver.serving.export.other_tools import plain_tokenizer
from uniperceiver.serving.export.plan import plan_export
from uniperceiver.tokenizers import bpe

TASKS = ("image_classification", "image_text_retrieval")


def routed(condition: str, names: tuple[str, ...] = TASKS, **settings: Any) -> Any:
    return tiny_saved(names, moe=moe_of(condition, layers=(0,), **settings))


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    return exported(tmp_path_factory.mktemp("export") / "merged", routed("attribute"))


@pytest.fixture(scope="module")
def by_token(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    return exported(tmp_path_factory.mktemp("export") / "token", routed("token", TASKS[:1]))


def test_experts_that_read_no_values_are_merged_by_themselves(merged: ExportedModel) -> None:
    assert difference(lambda model: model.classify(PICTURES, LABELS), merged) <= CLOSE
    assert difference(lambda model: model.rank(PICTURES, ["a", "b"]), merged) <= CLOSE


def test_tasks_that_see_the_same_weights_share_a_graph(merged: ExportedModel) -> None:
    assert files_of(merged.report) == {"vision_model.onnx", "text_model.onnx"}
    assert all(graph["difference"] <= CLOSE for graph in merged.report["graphs"].values())


def test_tasks_that_see_other_weights_have_graphs_of_their_own() -> None:
    plan = plan_export(routed("task"))
    assert {"vision_model.onnx", "vision_model.image_classification.onnx"} <= set(plan.graphs)
    assert plan.tasks["image_classification"].input_graph != plan.tasks["image_text_retrieval"].media_graph


def test_a_call_that_needs_a_task_says_so_as_the_model_does() -> None:
    plan = plan_export(routed("task", ("image_classification", "image_tagging")))
    assert "say with task=" in str(plan.calls["encode_text text"])


def test_every_expert_that_values_choose_is_in_the_graph(by_token: ExportedModel) -> None:
    assert difference(lambda model: model.classify(PICTURES, LABELS), by_token) <= CLOSE
    experts = check.experts_in(by_token.model.model)
    moe = by_token.model.saved.arch.moe
    assert moe is not None
    assert experts == 4 * moe.experts  # linears of a layer
    assert {graph["experts"] for graph in by_token.report["graphs"].values()} == {experts}


def test_a_missing_expert_is_refused(by_token: ExportedModel) -> None:
    other = UniPerceiver(routed("token", TASKS[:1])).model
    with torch.no_grad():
        next(module for module in other.modules() if hasattr(module, "experts")).experts[1].weight.add_(1.0)
    held = check.experts_held(by_token.folder / "onnx" / "vision_model.onnx", other)
    assert held == (check.experts_in(other) or 0) - 1


def test_a_changed_weight_is_refused(merged: ExportedModel, tmp_path: Path) -> None:
    import onnx

    graph = onnx.load(merged.folder / "onnx" / "vision_model.onnx")
    largest = max(graph.graph.initializer, key=lambda value: len(value.raw_data))
    values = np.frombuffer(largest.raw_data, dtype=np.float32).copy()
    values[3] += 0.5
    largest.raw_data = values.tobytes()
    onnx.save(graph, tmp_path / "vision_model.onnx")
    plan = plan_export(merged.model.saved)
    with pytest.raises(UserError, match="differs from the model by"):
        checked(tmp_path, "vision_model.onnx", plan, merged.model.saved)


def test_a_refused_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (uniperceiver[export])")
    monkeypatch.setattr("uniperceiver.serving.export.export.difference", lambda *_: 2e-4)
    with pytest.raises(UserError, match="nothing is kept"):
        UniPerceiver(tiny_saved(TASKS[1:])).export(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        UniPerceiver(tiny_saved(TASKS)).export(tmp_path)


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown task 'image_clasification'"):
        UniPerceiver(tiny_saved(TASKS)).export(tmp_path / "out", tasks=["image_clasification"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"condition": "token", "evaluation_capacity": 1.0}, "moe.capacity"),
        ({"condition": "expert_choice", "group": "batch"}, "moe.group=batch"),
    ],
)
def test_what_cannot_be_exported_is_one_line(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as raised:
        plan_export(routed(**settings))
    assert "\n" not in str(raised.value)


def test_other_tools_find_their_files(merged: ExportedModel) -> None:
    from tokenizers import Tokenizer

    folder = merged.folder
    assert json.loads((folder / "config.json").read_text())["model_type"] == "clip"
    assert json.loads((folder / "preprocessor_config.json").read_text())["image_mean"] == [0.485, 0.456, 0.406]
    card = (folder / "README.md").read_text()
    assert all(file in card and graph["sha256"] in card for file, graph in merged.report["graphs"].items())
    tokenizer, codec = Tokenizer.from_file(str(folder / "tokenizer.json")), merged.model.codec
    for text in ("A red  circle\n", "", "naïve Ünder", "x" * 300):
        assert tokenizer.encode(text).ids == [*codec.encode(text), codec.end]


def test_the_graphs_have_the_inputs_of_clip_and_axes_of_any_length(merged: ExportedModel) -> None:
    import onnxruntime

    names = {}
    for file in files_of(merged.report):
        session = onnxruntime.InferenceSession(merged.folder / "onnx" / file)
        names[file] = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    assert names["vision_model.onnx"] == {"pixel_values": ["batch", 3, 32, 32], "image_embeds": ["batch", 16]}
    assert names["text_model.onnx"] == {
        "input_ids": ["batch", "length"],
        "attention_mask": ["batch", "length"],
        "text_embeds": ["batch", 16],
    }


def test_a_foreign_vocabulary_has_no_plain_tokenizer_where_its_ids_would_be_others(merged: ExportedModel) -> None:
    codec = merged.model.codec
    gap = {bpe.END: codec.size + 5, bpe.ANSWER: codec.size + 6}
    assert plain_tokenizer(replace(codec, specials=gap)) is None
