"""A merged model as people use it: the same answers to every question, the same files again, and what it refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.small_run import TASKS, small_recipe, train
from uniperceiver import UniPerceiver, load
from uniperceiver.errors import UserError
from uniperceiver.model.merge import MergedSize
from uniperceiver.serving.merge import note
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import Task

FILES = ("README.md", "config.json", "model.safetensors", "preprocess.json", "tokenizer.json")
TEXTS = ["a red square", "a small blue circle that moves to the left of a big one", "nothing"]
QUESTION = Task(
    name="question",
    inputs=("image", "text"),
    candidates="labels",
    read_at="masked",
    temperature="downstream",
    template="{text} {answer} .",
    labels=(("yes",), ("no", "not at all")),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a model with experts; nobody may change it."""
    folder = tmp_path_factory.mktemp("runs") / "experts"
    moe = {"condition": "attribute", "experts": 4, "layers": [1]}
    train(folder, small_recipe(tuple(TASKS), steps=3, model__layers=3, model__layer_scale=0.5, moe=moe))
    return folder


@pytest.fixture(scope="module")
def routed(folder: Path) -> UniPerceiver:
    return load(folder)


@pytest.fixture(scope="module")
def merged(routed: UniPerceiver) -> UniPerceiver:
    return routed.merge()


def pictures() -> list[np.ndarray]:
    return [np.random.default_rng(seed).integers(0, 255, (40, 36, 3), dtype=np.uint8) for seed in range(3)]


def clips() -> list[np.ndarray]:
    return [np.random.default_rng(seed).integers(0, 255, (3, 36, 40, 3), dtype=np.uint8) for seed in range(3)]


QUESTIONS: dict[str, Callable[[UniPerceiver], Tensor]] = {
    "classify images": lambda model: model.classify(pictures(), task="colours"),
    "classify images by other labels": lambda model: model.classify(pictures(), labels=["a", ["b", "c d"]]),
    "classify clips": lambda model: model.classify(clips(), task="motions"),
    "classify texts": lambda model: model.classify(TEXTS, task="relations"),
    "classify texts by other labels": lambda model: model.classify(TEXTS, labels=["left", "right"]),
    "rank images": lambda model: model.rank(pictures(), TEXTS, task="retrieval"),
    "rank clips": lambda model: model.rank(clips(), TEXTS),
    "encode images": lambda model: model.encode_image(pictures()),
    "encode clips": lambda model: model.encode_video(clips(), task="clip_retrieval"),
    "encode texts": lambda model: model.encode_text(TEXTS),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_the_same(routed: UniPerceiver, merged: UniPerceiver, question: str) -> None:
    ask = QUESTIONS[question]
    torch.testing.assert_close(ask(merged), ask(routed), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ask(merged), ask(routed), rtol=1e-5, atol=1e-6)  # now from the cache


@pytest.mark.parametrize("beam", [1, 3])
def test_captions_are_the_same(routed: UniPerceiver, merged: UniPerceiver, beam: int) -> None:
    for task, things in (("captions", pictures()), ("clip_captions", clips()), (None, pictures())):
        assert merged.caption(things, beam, task, max_words=6) == routed.caption(things, beam, task, max_words=6)


def test_a_question_about_a_picture(routed: UniPerceiver) -> None:
    ask = QUESTIONS["classify images"]
    merged = routed.merge([QUESTION, "colours"])
    asked = {"task": QUESTION, "texts": TEXTS}
    found, expected = (model.classify(pictures(), **asked) for model in (merged, routed))  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ask(merged), ask(routed), rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="merged for question, colours, and holds no weights for text tokens of cand"):
        merged.classify(TEXTS, task="relations")


def test_two_tasks_of_one_name_are_both_merged_for(routed: UniPerceiver) -> None:
    beside_a_picture = {"task": QUESTION, "texts": TEXTS}
    alone = replace(QUESTION, inputs=("text",))
    merged = routed.merge([QUESTION, alone])
    for ask in (
        lambda model: model.classify(pictures(), **beside_a_picture),
        lambda model: model.classify(TEXTS, task=alone),
    ):
        torch.testing.assert_close(ask(merged), ask(routed), rtol=1e-5, atol=1e-6)


def test_saving_gives_the_same_model_and_the_same_bytes(merged: UniPerceiver, tmp_path: Path) -> None:
    merged.save_pretrained(tmp_path / "one")
    again = load(tmp_path / "one")
    again.save_pretrained(tmp_path / "two")
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    for name, ask in QUESTIONS.items():
        assert torch.equal(ask(again), ask(merged)), name
    assert again.saved.tasks == merged.saved.tasks
    assert again.saved.arch == merged.saved.arch


def test_the_files_say_what_was_merged(routed: UniPerceiver, tmp_path: Path) -> None:
    routed.merge(["captions", "colours"]).save_pretrained(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())["architecture"]["merged"]
    assert told["tasks"] == ["captions", "colours"]
    assert len(told["codes"]) == len({tuple(code) for code in told["codes"]}) == 5
    assert [(half["layer"], half["part"]) for half in told["half_blocks"]] == [(1, "attention"), (1, "ffn")]
    names = set(load_file(tmp_path / "model.safetensors"))
    assert {f"encoder.blocks.1.attention.qkv.rows.{row}.weight" for row in range(5)} <= names
    assert "encoder.blocks.0.attention.qkv.weight" in names
    assert not any("expert" in name or "router" in name for name in names)
    card = (tmp_path / "README.md").read_text()
    assert "merged: 4 experts chosen by attribute, 2 at a time, became at most 5 sets of weights" in card
    assert "only what these tasks need: captions, colours\n" in card


def test_the_card_of_a_model_with_experts(folder: Path) -> None:
    assert "- experts: 4 experts chosen by attribute, 2 at a time\n" in (folder / "model" / "README.md").read_text()


def test_one_task_needs_its_rows_only(routed: UniPerceiver, merged: UniPerceiver) -> None:
    alone = routed.merge("relations")
    assert alone.saved.arch.merged is not None
    assert alone.saved.arch.merged.tasks == ("relations",)
    assert alone.saved.arch.merged.rows == 2
    texts = TEXTS[:2]
    torch.testing.assert_close(alone.classify(texts, task="relations"), merged.classify(texts, task="relations"))
    torch.testing.assert_close(alone.classify(texts, ["a", "b"]), routed.classify(texts, ["a", "b"]))  # anonymous
    for ask in (
        lambda: alone.classify(pictures(), task="colours"),
        lambda: alone.encode_image(pictures()),
        lambda: alone.caption(pictures()),
        lambda: alone.encode_text(TEXTS),
    ):
        with pytest.raises(UserError, match="this model was merged for relations, and holds no weights for ") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_the_cache_forgets_when_a_row_changes(routed: UniPerceiver) -> None:
    merged = routed.merge(["colours"])
    before = merged.classify(pictures(), task="colours")
    with torch.no_grad():
        for row in merged.model.encoder.blocks[1].ffn.linear2.rows:
            row.weight.mul_(1.5)
    assert not torch.allclose(merged.classify(pictures(), task="colours"), before)
    assert torch.equal(routed.merge(["colours"]).classify(pictures(), task="colours"), before)


def test_unknown_tasks_and_none(routed: UniPerceiver) -> None:
    with pytest.raises(UserError, match=r"merge: unknown task 'colour'; did you mean 'colours'\?"):
        routed.merge(["colour"])
    with pytest.raises(UserError, match="merge: no task to merge for"):
        routed.merge([])
    with pytest.raises(UserError, match="merge: no task to merge for"):
        UniPerceiver(replace(routed.saved, tasks={})).merge()
    assert UniPerceiver(replace(routed.saved, tasks={})).merge([CATALOGUE["image_captioning"]]).saved.arch.merged


def test_only_a_model_with_experts_is_merged(merged: UniPerceiver, model: UniPerceiver) -> None:
    with pytest.raises(UserError, match=r"merged already, for colours, motions, .*; merge the model with experts that"):
        merged.merge()
    with pytest.raises(UserError, match="this model is dense"):
        model.merge()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (3, ""),
        (4, "as many rows as experts (4): no smaller than the model with experts, only faster"),
        (7, "more rows than experts (4): no smaller than the model with experts, only faster"),
    ],
)
def test_what_saves_nothing_is_said(rows: int, said: str) -> None:
    assert note(MergedSize(rows=rows, parameters=1), MergedSize(rows=4, parameters=2)) == said
