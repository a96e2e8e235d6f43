"""`uniperceiver experts RUN`: tables, JSON and a picture of runs of every kind, and one line where there is nothing."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.small_run import small_recipe, train
from uniperceiver.cli import main
from uniperceiver.evaluation.experts import Experts
from uniperceiver.moe.statistics import GateFigures
from uniperceiver.runs.experts import _weights, experts_of_run, print_experts
from uniperceiver.runs.report import write_report

TASKS = ("colours", "words", "captions", "retrieval")


def run_of(folder: Path, condition: str, tasks: tuple[str, ...] = TASKS, **settings: Any) -> Path:
    section = {"condition": condition, "experts": 4, **settings}
    train(folder, small_recipe(tasks, steps=1, moe=section))
    return folder


@pytest.fixture(scope="module")
def attribute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("experts") / "attribute", "attribute")


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("experts") / "token", "token", gates="linear")


def test_every_task_side_modality_and_gate_is_there(token: Path) -> None:
    found = experts_of_run(token)
    assert (found.condition, found.experts, found.k) == ("token", 4, 2)
    groups = {(each.task, each.side, each.kind, each.layer, each.part, each.gate) for each in found.figures}
    inputs = [("colours", "visual"), ("words", "text"), ("captions", "visual"), ("captions", "text")]
    sides = [(task, "input", kind) for task, kind in [*inputs, ("retrieval", "visual")]]
    sides += [(task, "candidate", "text") for task in TASKS]
    places = [(0, part, gate) for part in ("attention", "ffn") for gate in (0, 1)]
    assert groups == {(*side, *place) for side in sides for place in places}
    for each in found.figures:
        assert sum(each.load) == pytest.approx(1.0, abs=1e-3)
        assert sum(each.weight) == pytest.approx(1.0, abs=1e-3)
        assert each.tokens > 0
        assert (each.drop_rate, each.unserved) == (0.0, 0.0)


def test_rows_of_a_condition_without_values_choose_k_experts(attribute: Path) -> None:
    for each in experts_of_run(attribute).figures:
        assert sorted(each.load) == [0.0, 0.0, 0.5, 0.5]


def test_only_one_task_and_split(token: Path) -> None:
    whole = experts_of_run(token)
    some = experts_of_run(token, task="words", split="train", limit=2)
    assert {each.task for each in some.figures} == {"words"}
    assert sum(each.tokens for each in some.figures) < sum(
        each.tokens for each in whole.figures if each.task == "words"
    )


def test_a_task_alone_keeps_its_place_among_the_tasks(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "task")
    whole = [each for each in experts_of_run(run).figures if each.task == "captions"]
    assert list(experts_of_run(run, task="captions").figures) == whole


def test_the_table(token: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experts", str(token), "--limit", "4"]) == 0
    shown = capsys.readouterr().out
    assert "attention: mean weight of each expert in % (token, 2 of 4)" in shown
    assert "ffn: mean weight" in shown
    assert "0 (gate 1)" in shown
    for word in ("colours", "text candidates", "entropy", "top-1", "dropped"):
        assert word in shown
    assert "unserved" not in shown
    assert all(len(line) <= 120 for line in shown.splitlines())


def test_json_is_all_there_is(attribute: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experts", str(attribute), "--json"]) == 0
    given = json.loads(capsys.readouterr().out)
    assert given == json.loads(json.dumps(dataclasses.asdict(experts_of_run(attribute))))
    assert {"task", "side", "kind", "layer", "part", "load", "drop_rate", "entropy", "top1"} <= set(given["figures"][0])


def test_the_picture_is_a_page(attribute: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experts", str(attribute), "--picture", str(tmp_path / "experts.html")]) == 0
    page = (tmp_path / "experts.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2 * 2  # wide and narrow
    assert "mean weight" in page
    capsys.readouterr()


def test_own_copies_are_said_to_be_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run", "task_specific", ("colours", "words"))
    assert main(["experts", str(run)]) == 0
    assert "task_specific: each task has its own copy" in " ".join(capsys.readouterr().out.split())
    report = write_report(run, {"tasks": {}}).read_text(encoding="utf-8")
    assert "each task has its own copy" in report


def test_reports_have_the_picture_where_there_are_experts(attribute: Path, trained: Path, tmp_path: Path) -> None:
    assert 'id="experts"' in write_report(attribute, {"tasks": {}}).read_text(encoding="utf-8")
    dense = tmp_path / "dense"
    train(dense, small_recipe(steps=1))
    assert 'id="experts"' not in write_report(dense, {"tasks": {}}).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{dense}"], "a dense model, which has no experts; train one with, say, moe.condition=attribute"),
        (["{run}/model"], "not a run (it has no recipe.yaml to name data); give the folder that train wrote"),
        (["{run}", "--task", "colour"], "--task: no task 'colour'; did you mean 'colours'?"),
        (["{run}", "--split", "test"], "no data in split test; name another with --split"),
        (["{run}", "--limit", "-1"], "--limit: -1 is no number of samples"),
        (["{run}", "--picture", "{run}/absent/x.html"], "--picture: there is no folder"),
        (["{run}", "--picture", "{run}"], "attribute: cannot be written (Is a directory); name another file"),
        (["{run}", "--device", "abacus"], "device 'abacus': "),
        (["{run}/absent"], "neither a saved model (config.json) nor a run with one"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, attribute: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [each.format(run=attribute, dense=trained) for each in arguments]
    assert main(["experts", *given]) == 2
    streams = capsys.readouterr()
    (line,) = [each for each in streams.err.splitlines() if each.strip()]
    assert message in line
    assert not streams.out


def a_gate(**changes: Any) -> GateFigures:
    values: dict[str, Any] = {"task": "a", "side": "input", "kind": "text", "layer": 0, "part": "ffn", "gate": 0}
    values |= {"tokens": 9, "load": [0.04] * 25, "weight": [0.04] * 25, "drop_rate": 0.0, "unserved": 0.0}
    return GateFigures(**{**values, "entropy": 1.0, "top1": 0.5, **changes})


def test_of_many_experts_those_with_the_largest_weights_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    weight = [0.01] * 25
    weight[7], weight[21] = 0.5, 0.27
    print_experts(Experts(condition="token", experts=25, k=2, figures=[a_gate(weight=weight, unserved=0.125)]))
    shown = capsys.readouterr().out
    assert "7:50 21:27 0:1" in shown
    assert "unserved" in shown
    assert "12.5" in shown


def test_of_many_experts_the_heaviest_ones_that_have_tokens_are_named() -> None:
    weight = [0.0] * 20
    weight[3], weight[17], weight[1] = 0.1, 0.6, 0.3
    figures: Any = SimpleNamespace(weight=weight)
    assert _weights(figures) == "17:60 1:30 3:10"
    figures.weight = [number / 210 for number in range(1, 21)]
    assert [part.split(":")[0] for part in _weights(figures).split()] == [str(n) for n in range(19, 11, -1)]
