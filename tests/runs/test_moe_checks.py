"""Experts that cannot be are refused before any data are decoded, and the command line says so with exit code 2."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.small_run import IMAGES, log_lines, small_recipe, train, values_of, write_recipe
from uniperceiver import cli, evaluate, load
from uniperceiver.cli.models import asked_model
from uniperceiver.config import read_overrides, read_recipe
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.errors import UserError
from uniperceiver.records import Sample
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.serving.predict.predict import Question, predict

NOTE = "figures depend on which samples share a batch"


@pytest.fixture
def nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data may be opened; no sample is decoded, and no text is read."""

    def read(self: ScenesSource, index: int) -> Sample:
        raise AssertionError("a sample was decoded")

    def texts(self: ScenesSource) -> Iterator[str]:
        raise AssertionError("texts were read")

    monkeypatch.setattr(ScenesSource, "read", read)
    monkeypatch.setattr(ScenesSource, "texts", texts)


@pytest.mark.usefixtures("nothing_is_read")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("moe.condition=atribute", "moe.condition 'atribute' is unknown; did you mean 'attribute'?"),
        ("moe.condition=share", "moe.condition 'share' is unknown; did you mean 'shared'?"),
        ("moe.condition=token moe.k=9", "moe.k 9 is more than moe.experts 8; choose 1 <= k <= experts"),
        ("moe.condition=token moe.k=1 moe.renormalise=true", "moe.renormalise: with k=1"),
        ("moe.condition=token moe.layers=[1]", "moe.layers [1]: the model's layers are 0 to 0; name some of them"),
        ("moe.condition=token moe.level=ffn", "moe.level ffn: "),
        (
            "moe.condition=expert_choice",
            "moe.condition=expert_choice: cannot be used with task 'captions', which writes",
        ),
        ("moe.condition=token moe.capacity={}", "moe.capacity: cannot be used with task 'captions', which writes"),
        ("moe.condition=task moe.capacity={}", "moe.capacity: moe.condition=task decides for whole segments"),
        ("moe.condition=task moe.balance.z=0.1", "moe.balance.z: moe.condition=task decides for whole segments"),
        ("moe.condition=token moe.noise=0 moe.balance.load=1", "moe.balance.load: "),
        ("moe.condition=token moe.copy_noise=0.1", "moe.copy_noise: without model.start nothing is copied; remove"),
        (
            "moe.condition=token moe.begin=equal model.start=x",
            "moe.begin=equal: model.start gives the first weights; remove one of the two keys",
        ),
        (
            "moe.experts=4",
            "recipe.yaml: moe.experts has no effect without moe.condition; add one, such as moe.condition=token, or ",
        ),
        ("moe.condition=null moe.k=2", "recipe.yaml: key 'moe.condition' has a wrong value None"),
    ],
)
def test_the_command_line_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, message: str) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", values_of())
    assert cli.main(["train", str(path), *words.split(), "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.removeprefix("uniperceiver: ").removeprefix(f"{tmp_path}/").startswith(message)
    assert not (tmp_path / "run").exists()


def test_a_condition_is_said_where_experts_are(tmp_path: Path) -> None:
    for keys in ({"experts": 4}, {"balance": {"z": 0.1}}, {"layers": 2, "k": 2}):
        path = write_recipe(tmp_path / "r.yaml", values_of(moe=keys))
        with pytest.raises(
            UserError, match=rf"r.yaml: moe.{next(iter(keys))} has no effect .*, or moe.condition=shared"
        ):
            read_recipe(path)
        said = read_recipe(path, read_overrides(["moe.condition=shared"]))
        assert said.moe.condition == "shared"
    for nothing in (values_of(), values_of(moe={})):
        assert read_recipe(write_recipe(tmp_path / "r.yaml", nothing)).moe.condition == "shared"


def test_tasks_that_write_nothing_may_use_all(tmp_path: Path) -> None:
    tasks = ("colours", "relations", "words", "retrieval")
    for moe in ({"condition": "expert_choice"}, {"condition": "token", "capacity": {}}):
        prepare_run(small_recipe(tasks, moe=moe), tmp_path, tmp_path / str(moe["condition"]), quiet=True)


def test_experts_that_choose_in_a_batch_are_noted_and_choose_in_no_chunk(tmp_path: Path) -> None:
    moe = {"condition": "expert_choice", "k": 2, "group": "batch", "serve_answer": True}
    run = prepare_run(
        small_recipe(("colours",), moe=moe, model__readout="mean"), tmp_path, tmp_path / "run", quiet=True
    )
    assert run.objective.model.mean_readout
    assert [line for line in run.notes if line.startswith("moe.group=batch") and NOTE in line]
    for keys in ({"candidates__share": "step"}, {"tasks__retrieval__negatives": "step"}):
        recipe = small_recipe(("colours", "retrieval"), moe=moe, **keys)
        with pytest.raises(UserError, match=r"^moe.group=batch: depends on what is encoded together; remove it, or "):
            prepare_run(recipe, tmp_path, tmp_path / "other", quiet=True)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a capacity, on a task that writes nothing."""
    folder = tmp_path_factory.mktemp("runs") / "limited"
    moe = {"condition": "token", "experts": 3, "capacity": {"training": 0.5, "evaluation": 1.0}}
    train(folder, small_recipe(("colours",), steps=2, moe=moe))
    return folder


def test_a_capacity_is_noted_in_training(limited: Path, trained: Path) -> None:
    (line,) = log_lines(limited, "note")
    assert NOTE in line["text"]
    assert not [line for line in log_lines(trained, "note") if NOTE in line["text"]]


def test_a_capacity_is_noted_in_evaluation_and_prediction(
    limited: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ScenesSource(items=1, pixels=32)
    (tmp_path / "one.png").write_bytes(_png(source))
    for folder, noted in ((limited, 1), (trained, 0)):
        capsys.readouterr()
        evaluate(folder, splits=("val",), task="colours")
        assert capsys.readouterr().err.count(NOTE) == noted
        predict(
            asked_model(folder, None, trust=False, device="cpu"),
            Question(kind="classify", labels=["red", "blue"]),
            [str(tmp_path / "one.png")],
        )
        assert capsys.readouterr().err.count(NOTE) == noted


def test_a_capacity_is_refused_for_a_writing_task_of_another_recipe(limited: Path, tmp_path: Path) -> None:
    other = write_recipe(tmp_path / "other.yaml", values_of(("captions",)))
    with pytest.raises(UserError, match=r"^moe.capacity: cannot be used with task 'captions'.*, or leave the task out"):
        evaluate(limited, splits=("val",), data=other)


def test_experts_by_task_cannot_be_measured_on_another_task(tmp_path: Path) -> None:
    train(tmp_path / "run", small_recipe(("colours",), steps=1, moe__condition="task"))
    shapes = {"kind": "image_classification", "val": {**IMAGES, "label": "shape"}, "size": 32}
    other = write_recipe(tmp_path / "other.yaml", {**values_of(()), "tasks": {"shapes": shapes}})
    with pytest.raises(
        UserError, match=r"^tasks.shapes: this model chose its experts by task, .*; name it .* colours$"
    ):
        evaluate(tmp_path / "run", splits=("val",), data=other)
    assert load(tmp_path / "run").saved.arch.needs_task


def _png(source: ScenesSource) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(source.read(0).image)).save(file, format="PNG")
    return file.getvalue()
