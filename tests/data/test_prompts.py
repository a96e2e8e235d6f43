"""Prompts: texts for classes, captions that are made of labels, and figures of each prompt alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.small_run import IMAGES, small_recipe, train
from uniperceiver import cli, evaluate, load
from uniperceiver.data.batch import Prepared, collate, prepare
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.data.vocabulary import text_encoder
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.streams import numpy_stream
from uniperceiver.tasks.candidates import label_candidates
from uniperceiver.training.step_candidates import _names

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
PROMPTS = ["a {label} thing", "something {label}", "{label}"]
LABELLED = {**IMAGES, "label": "colour"}


def opened(name: str, base: Path, **changes: Any) -> TaskData:
    keys = {f"tasks__{name}__{key}": value for key, value in changes.items()}
    (data,) = open_tasks(small_recipe((name,), **keys), base)
    return data


def test_every_prompt_holds_every_text_of_a_class(tmp_path: Path) -> None:
    task = opened("colours", tmp_path, prompts=PROMPTS, labels={"red": ["red", "crimson"]}).task
    assert task.labels[0] == ("red", "crimson")  # what people call it
    assert task.class_texts() == task.class_texts(training=True)
    assert task.class_texts()[0] == (
        "a red thing", "something red", "red", "a crimson thing", "something crimson", "crimson",
    )  # fmt: skip
    assert task.class_texts()[1] == ("a orange thing", "something orange", "orange")
    later = opened("colours", tmp_path, prompts=PROMPTS, evaluation_prompts=["it is {label}"]).task
    assert later.class_texts()[1] == ("it is orange",)
    assert later.class_texts(training=True)[1] == ("a orange thing", "something orange", "orange")


def test_a_prompt_is_drawn_in_training_and_all_are_averaged_later(tmp_path: Path) -> None:
    recipe = small_recipe(("colours",), tasks__colours__prompts=PROMPTS)
    tasks = open_tasks(recipe, tmp_path)
    codec, task = text_encoder(recipe, tasks, tmp_path), tasks[0].task
    assert codec.encode("something") == codec.encode("something")
    whole = label_candidates(task, codec, None)
    assert whole.owner_K is not None
    assert whole.owner_K.tolist() == [label for label in range(8) for _ in PROMPTS]
    seen = set()
    for step in range(30):
        drawn = label_candidates(task, codec, np.random.default_rng(step))
        assert drawn.owner_K is None
        assert drawn.sequences.size == 8
        ids_BN = drawn.sequences.parts[0].values
        valid_BN = drawn.sequences.parts[0].valid_BN
        row = ids_BN[3] if valid_BN is None else ids_BN[3][valid_BN[3]]
        seen.add(codec.decode(row.tolist()[:-1]).strip())
    assert seen == {"a green thing", "something green", "green"}


def prepared(data: TaskData, codec: Any, places: range, split: str = "train") -> list[Prepared]:
    training = split == "train"
    augment = data.config.augment if training else None
    return [
        prepare(
            data.task, data.sources[split].read(index), data.preprocess, codec, augment, numpy_stream(0, "x", index)
        )
        for index in places
    ]


def test_captions_of_labels_and_samples_of_one_class_share_the_target(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"prompts": PROMPTS, "evaluation_prompts": ["it is {label}"]}
    keys |= {"train": {**LABELLED, "items": 24}, "val": {**LABELLED, "split": "val"}}
    recipe = small_recipe(("retrieval",), **{f"tasks__retrieval__{key}": value for key, value in keys.items()})
    tasks = open_tasks(recipe, tmp_path)
    (data,) = tasks
    codec = text_encoder(recipe, tasks, tmp_path)
    batch = collate(data.task, prepared(data, codec, range(24)), codec)
    labels = [data.sources["train"].read(index).label for index in range(24)]
    assert batch.candidates is not None
    assert batch.readout.soft_RK is not None
    texts = [tuple(row.tolist()) for row in batch.candidates.parts[0].values]
    right = torch.tensor([[float(a == b) for b in labels] for a in labels])
    assert torch.equal(batch.readout.soft_RK, right)
    assert any(
        a == b and x != y for a, x in zip(labels, texts, strict=True) for b, y in zip(labels, texts, strict=True)
    )
    numbers_B2 = _names(batch)  # the same among all batches of a step
    assert torch.equal((numbers_B2[:, None, 1] == numbers_B2[None, :, 1]).float(), right)
    sample = data.sources["val"].read(0)
    assert sample.captions == (f"it is {COLOURS[sample.label or 0]}",)


def test_captions_of_their_own_are_no_matter_of_labels(tmp_path: Path) -> None:
    """Without prompts two samples of one class have different captions, of which only its own is right for each."""
    (data,) = open_tasks(small_recipe(("retrieval",), tasks__retrieval__train={**LABELLED, "items": 24}), tmp_path)
    codec = text_encoder(small_recipe(("retrieval",)), [data], tmp_path)
    soft_RK = collate(data.task, prepared(data, codec, range(12)), codec).readout.soft_RK
    assert soft_RK is not None
    assert torch.equal(soft_RK, torch.eye(12))


def test_a_sample_without_a_label_has_no_caption(tmp_path: Path) -> None:
    data = opened("retrieval", tmp_path, prompts=PROMPTS, train=LABELLED, val=None)
    source = data.sources["train"]
    unknown = type("Unlabelled", (), {"read": lambda self, index: type(source).read.__globals__["dataclasses"].replace(
        source.whole.read(index), label=None)})()  # fmt: skip
    bare = type(source)(whole=unknown, texts_of_class=source.texts_of_class)
    codec = text_encoder(small_recipe(("retrieval",)), [data], tmp_path)
    with pytest.raises(BrokenSample, match="has no caption"):
        prepare(data.task, bare.read(0), data.preprocess, codec, None, numpy_stream(0))


@pytest.mark.parametrize(
    ("name", "keys", "line"),
    [
        ("colours", {"prompts": ["a thing"]}, r"tasks.colours.prompts: 'a thing': write \{label\} once, where the"),
        ("colours", {"prompts": ["{label} {label}"]}, r"tasks.colours.prompts: '\{label\} \{label\}': write \{label\}"),
        ("colours", {"prompts": PROMPTS, "evaluation_prompts": ["x"]}, r"tasks.colours.evaluation_prompts: 'x': write"),
        (
            "colours",
            {"evaluation_prompts": PROMPTS},
            "tasks.colours.evaluation_prompts: have no meaning without prompts",
        ),
        ("words", {"prompts": PROMPTS}, "tasks.words.prompts: a task of kind"),
        ("retrieval", {"prompts": PROMPTS}, "tasks.retrieval.train: "),
        ("captions", {"prompts": PROMPTS, "train": LABELLED, "val": None}, "tasks.captions.prompts: a task of kind"),
    ],
)
def test_prompts_that_cannot_be_used(name: str, keys: dict[str, Any], line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{line}") as caught:
        opened(name, tmp_path, **keys)
    assert "\n" not in str(caught.value)


def test_a_saved_model_asks_with_its_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "run", small_recipe(("colours",), steps=2, tasks__colours__prompts=PROMPTS))
    model = load(tmp_path / "run", device="cpu")
    assert model.saved.tasks["colours"].task.prompts == tuple(PROMPTS)
    assert model.labels("colours") == list(COLOURS)
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    own = model.classify([image], task="colours")
    assert torch.equal(model.classify([image], labels=COLOURS, task="colours"), own)
    spelled = model.classify([image], labels=COLOURS, task="colours", template=PROMPTS)
    torch.testing.assert_close(spelled, own)
    bare = model.classify([image], labels=COLOURS, task="colours", template="{label}")
    assert not torch.allclose(bare, own, atol=1e-6)
    metrics = evaluate(tmp_path / "run", splits=("val",), quiet=True)["tasks"]["colours"]["val"]
    for prompt in PROMPTS:
        name = f'accuracy@1 "{prompt}"'
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "run"), "--split", "val"]) == 0
    out = capsys.readouterr().out
    assert "colours/val: accuracy@1 with" in out
