"""Tables and files of figures, and the answers of `predict` as lines."""

import csv
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from uniperceiver import evaluate, load, train
from uniperceiver.cli.output import print_results
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import UserError
from uniperceiver.runs.experts import experts_of_run
from uniperceiver.runs.folder import saved_recipe, write_results
from uniperceiver.runs.interference.of_run import InterferenceSettings, interference_of_run
from uniperceiver.serving.info import as_text as info_text
from uniperceiver.serving.predict.tables import as_text

METRICS = {
    "accuracy@1": 0.5,
    "accuracy@1_low": 0.4,
    "accuracy@1_high": 0.6,
    "chance": 0.25,
    "bleu4": 0.1,
    "chance_bleu4": 0.2,
    "loss": 1.0,
    "n": 8,
}


def test_the_table_shows_the_main_metric_with_its_chance(capsys: pytest.CaptureFixture[str]) -> None:
    print_results({"tasks": {"colours": {"val": METRICS}}})
    shown = " ".join(capsys.readouterr().out.split())
    assert all(each in shown for each in ("colours", "val", "accuracy@1", "0.500", "0.250", "8"))


def test_another_default_type_is_refused_and_loads_the_same_model(trained: Path, tmp_path: Path) -> None:
    def asked() -> torch.Tensor:
        return load(trained).classify("the red circle", labels=["left", "right"])

    before = asked()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(asked(), before)
        message = r"default type is torch\.float64, .*; call torch\.set_default_dtype\(torch\.float32\) first"
        for call in (evaluate, experts_of_run, lambda run: train(saved_recipe(run)[0], tmp_path / "run")):
            with pytest.raises(UserError, match=message):
                call(trained)
        assert not (tmp_path / "run").exists()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (torch.no_grad, r"gradients are switched off, .*; call this outside of torch\.no_grad\(\) and"),
        (torch.inference_mode, r"gradients are switched off, .* and torch\.inference_mode\(\)"),
        (lambda: torch.device("meta"), r"default device is meta, .*; call torch\.set_default_device\('cpu'\) first"),
        (lambda: torch.autocast("cpu", dtype=torch.bfloat16), r"torch\.autocast is on, .*optimiser\.precision"),
    ],
)
def test_training_is_refused_where_a_program_has_changed_how_torch_computes(
    trained: Path, tmp_path: Path, changed: Callable[[], AbstractContextManager[object]], message: str
) -> None:
    with changed(), pytest.raises(UserError, match=message):
        train(saved_recipe(trained)[0], tmp_path / "run")
    with changed(), pytest.raises(UserError, match=message):
        interference_of_run(trained, InterferenceSettings())
    assert not (tmp_path / "run").exists()


def test_figures_need_no_gradients(trained: Path) -> None:
    plain = evaluate(trained, splits=("val",), task="colours")
    with torch.inference_mode():
        assert evaluate(trained, splits=("val",), task="colours") == plain
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(UserError, match=r"torch\.autocast is on"):
        evaluate(trained)


def test_a_limit_of_training_samples(trained: Path) -> None:
    some = evaluate(trained, splits=("train", "val"), task="colours", train_limit=4)["tasks"]["colours"]
    assert (some["train"]["n"], some["val"]["n"]) == (4, 12)


def test_a_run_and_its_evaluation_agree(trained: Path) -> None:
    one, other = (evaluate(trained, splits=("test",), task="colours") for _ in range(2))
    assert one == other


def test_predictions_are_a_file(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    results = evaluate(trained, splits=("val", "test"), task="colours", predictions=path)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row["split"] for row in rows] == ["val"] * 12 + ["test"] * 12
    for split in ("val", "test"):
        right = [row["right"] == "true" for row in rows if row["split"] == split]
        assert sum(right) / 12 == pytest.approx(results["tasks"]["colours"][split]["accuracy@1"])
        counts = results["classes"]["colours"][split]["counts"]
        assert sum(samples for _, _, samples in counts) == 12
        assert sum(samples for row, column, samples in counts if row == column) == sum(right)
    with pytest.raises(UserError, match=r"predictions: .*answers\.txt: expected a file that ends in"):
        evaluate(trained, splits=("val",), predictions=tmp_path / "answers.txt")


def test_the_table_says_where_candidates_differ(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = METRICS | {"i2t_recall@1": 0.5}
    splits = {"train": metrics | {"candidates": 512}, "val": metrics | {"candidates": 200}}
    print_results({"tasks": {"pairs": splits}})
    shown = " ".join(capsys.readouterr().out.split())
    assert "pairs: recall and loss are among different numbers of candidates, 512 (train), 200 (val): the" in shown


def test_an_unknown_task(trained: Path) -> None:
    with pytest.raises(UserError, match="no task 'colour'; did you mean 'colours'"):
        evaluate(trained, splits=("val",), task="colour")


def test_results_are_a_file(tmp_path: Path) -> None:
    results = {"tasks": {"a": {"val": METRICS}}}
    write_results(tmp_path, results)
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_answers_as_lines() -> None:
    scores = {f"label {place}": 0.5**place for place in range(1, 8)}
    lines = as_text([{"file": "a.png", "answer": "label 1", "scores": scores}, {"file": "b.png", "answer": "x"}])
    assert lines[:2] == ["a.png: label 1", "      0.500  label 1"]
    assert len(lines) == 1 + 5 + 1
    assert lines[-1] == "b.png: x"


def test_facts_as_lines() -> None:
    assert info_text({"a": 12345, "b": {"c": ["x", "y"], "d": "z"}}) == ["a: 12,345", "b:", "  c: x, y", "  d: z"]


def test_of_tasks_that_are_given_the_one_that_is_asked_for_is_measured(trained: Path) -> None:
    tasks = open_tasks(*saved_recipe(trained))
    assert len(tasks) > 2
    assert list(evaluate(trained, splits="val", task="colours", tasks=tasks, quiet=True)["tasks"]) == ["colours"]
