"""A start that does not fit is refused in one line, and doing what the line says helps."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.small_run import small_recipe, train, values_of, write_recipe
from tests.started import EXPERTS, TASKS, first_model
from uniperceiver import load
from uniperceiver.config import read_recipe
from uniperceiver.errors import UserError
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.tokenizers import bpe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"moe": {**EXPERTS, "layout": "paper"}}, "release, the recipe asks for paper; write moe.layout=release$"),
        ({"moe": {**EXPERTS, "experts": 4}}, "have experts 3, the recipe asks for 4; write moe.experts=3$"),
        ({"moe": {**EXPERTS, "k": 3}}, "have k 2, .*; write moe.k=2$"),
        ({"moe": {**EXPERTS, "layers": 1}}, r"have attention_layers \(1,\), .*; write moe.layers=\[1\]$"),
        ({"moe": {**EXPERTS, "where": "ffn"}}, "; write moe.where=both$"),
        ({"moe": {**EXPERTS, "gates": "linear"}}, "; write moe.gates=half_block$"),
        ({"moe": {**EXPERTS, "renormalise": False}}, "; write moe.renormalise=true$"),
        ({"moe": {**EXPERTS, "where": "ffn", "level": "ffn"}}, "; write moe.where=both moe.level=linear$"),
        ({"moe": {**EXPERTS, "condition": "modality"}}, "attribute, .* modality; write moe.condition=attribute$"),
        ({}, "has experts, .*; write moe.condition=attribute moe.layout=release moe.experts=3 moe.layers=.1.$"),
        ({"moe": EXPERTS, "model__layers": 1, "moe__layers": 1}, "layers 2, .* layers 1; write model.layers=2$"),
    ],
)  # fmt: skip
def test_other_experts_are_refused_and_the_mend_mends(
    routed: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    values = values_of(TASKS, **{"model__start": str(routed), "model__layers": 2, **changes})
    path = write_recipe(tmp_path / "r.yaml", values)
    with pytest.raises(UserError, match=rf"^model.start {re.escape(str(routed))}: .*{message}") as caught:
        first_model(path, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "recipe.yaml").exists()
    mend = str(caught.value).rpartition("; write ")[2].split()
    first_model(path, tmp_path / "run", *mend, *(["moe.layers=[1]"] if "model__layers" in changes else []))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": None, "layers": None, "heads": None}, "width 16, layers 1, heads 2, .* 128, layers 5, heads 4; "
         "write model.width=16 model.layers=1 model.heads=2$"),
        ({"patch": 16}, "patch 8, the recipe asks for patch 16; write model.patch=8$"),
        ({"stem": "conv"}, "stem linear, the recipe asks for stem conv; write model.stem=linear$"),
        ({"patch_frames": 2, "max_text": 64}, ".*; write model.patch_frames=1 model.max_text=128$"),
        ({"readout": "mean"}, "readout answer, the recipe asks for readout mean; write model.readout=answer$"),
        ({"max_frames": 4}, "max_frames 8, .*; write model.max_frames=8$"),
    ],
)  # fmt: skip
def test_another_size_is_refused_and_the_mend_mends(
    trained: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    values = values_of(TASKS, model__start=str(trained))
    values["model"] |= changes
    path = write_recipe(tmp_path / "r.yaml", values)
    with pytest.raises(UserError, match=rf"^model.start \S+: its weights are for {message}") as caught:
        first_model(path, tmp_path / "run")
    first_model(path, tmp_path / "run", *str(caught.value).rpartition("; write ")[2].split())


def test_a_named_size_is_mended_by_its_name(tmp_path: Path) -> None:
    nano = values_of(TASKS, steps=1)
    nano["model"] = {"size": "nano", "vocabulary": 280, "max_text": 128}
    train(tmp_path / "nano", read_recipe(write_recipe(tmp_path / "nano.yaml", nano)))
    nano["model"] |= {"size": "tiny", "start": "nano", "max_frames": 4}
    with pytest.raises(UserError, match=r"width 128, layers 5, .*; write model.size=nano model.max_frames=8$"):
        first_model(write_recipe(tmp_path / "r.yaml", nano), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__start": None, "moe": {"condition": "token", "copy_noise": 0.1}}, "moe.copy_noise: without"),
        ({"moe": {"condition": "shared", "copy_noise": 0.1}}, "moe.copy_noise: a dense model has no copies; remove"),
        ({"moe": {"condition": "token", "k": 1}}, "model.start: a dense model cannot begin with moe.k=1"),
        ({"model__start": "absent"}, "model.start: absent: neither a saved model"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_with_a_start_is_refused(
    trained: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    recipe = small_recipe(TASKS, **{"model__start": str(trained), **changes})
    with pytest.raises(UserError, match=f"^{message}"):
        prepare_run(recipe, tmp_path, tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_noise_on_experts_that_are_no_copies_is_refused(routed: Path, tmp_path: Path) -> None:
    recipe = small_recipe(TASKS, model__start=str(routed), model__layers=2, moe={**EXPERTS, "copy_noise": 0.1})
    with pytest.raises(UserError, match=r"^moe.copy_noise: model.start \S+ has experts of its own, .*; remove the key"):
        prepare_run(recipe, tmp_path, tmp_path / "run")


def test_experts_chosen_by_task_need_the_same_tasks(by_task: Path, tmp_path: Path) -> None:
    for tasks in (("captions", "colours", "relations"), ("colours", "captions")):
        recipe = small_recipe(tasks, model__start=str(by_task), moe__condition="task_specific")
        with pytest.raises(UserError, match=r"for colours, captions, relations; .* in this order, found .*c"):
            prepare_run(recipe, tmp_path, tmp_path / "run")


def test_a_merged_start_is_refused(routed: Path, tmp_path: Path) -> None:
    load(routed).merge().save_pretrained(tmp_path / "merged")
    recipe = small_recipe(TASKS, model__start="merged", model__layers=2, moe=EXPERTS)
    with pytest.raises(UserError, match=r"^model.start merged: is merged, .*; begin with the model that it was merged"):
        prepare_run(recipe, tmp_path, tmp_path / "run")


def test_another_vocabulary_is_refused(trained: Path, tmp_path: Path) -> None:
    bpe.train(["quite other words"], size=280, lowercase=True).save(tmp_path / "other.json")
    shutil.copy(trained / "tokenizer.json", tmp_path / "same.json")
    recipe = small_recipe(TASKS, model__start=str(trained), model__vocabulary="other.json")
    with pytest.raises(
        UserError, match=r"^model.vocabulary: other.json is not the vocabulary of .*; leave the key out"
    ):
        prepare_run(recipe, tmp_path, tmp_path / "run")
    prepare_run(
        small_recipe(TASKS, model__start=str(trained), model__vocabulary="same.json"), tmp_path, tmp_path / "run"
    )
