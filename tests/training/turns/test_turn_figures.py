"""What is told of turns: tokens as they are encoded, shares beside the plan, and the time of a shape's steps."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.small_run import log_lines, small_recipe, train, values_of, write_recipe
from tests.tiny import tiny_batch, tiny_candidates, tiny_model, tiny_task
from uniperceiver import cli
from uniperceiver.data.turns import turns_at
from uniperceiver.parallel.world import World
from uniperceiver.report.run.records import RunReport
from uniperceiver.report.run.turns import turn_rows
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.training.turns.figures import TurnFigures
from uniperceiver.training.turns.tokens import of_batch

SEEN = [name for name, task in CATALOGUE.items() if set(task.modalities) <= {"image", "video", "text"}]
SHAPES: dict[str, Any] = {
    "steps": 40,
    "model__patch": 8,
    "sampling": {"mode": "unmixed", "tasks_per_step": 1, "order": "even", "tokens": 256},
    "tasks__motions__shapes": [{"drop": 0.5}, {"size": 16, "weight": 3}],
    **{f"tasks__{name}__{key}": value for name in ("motions", "colours") for key, value in (("batch", 32),)},
    "tasks__motions__weight": 3.0,
    "tasks__colours__weight": 1.0,
    "log__every": 10,
    "evaluation": {"every": 20, "limit": 4, "batch": 8},
}


@pytest.mark.parametrize("name", [name for name in SEEN if not CATALOGUE[name].answer.reads_objects])
def test_tokens_are_those_that_are_encoded(name: str) -> None:
    task, model = tiny_task(name), tiny_model()
    batch = tiny_batch(task)
    candidates = tiny_candidates(task, batch).sequences
    count = of_batch(batch.inputs, candidates, model.tokenizer)
    valid = encoded = inputs = 0
    for sequences in (batch.inputs, candidates):
        tokens = model.tokenizer(sequences)
        cells = tokens.x_BND.shape[0] * tokens.x_BND.shape[1]
        encoded += cells
        valid += cells if tokens.valid_BN is None else int(tokens.valid_BN.sum())
        inputs = cells if sequences is batch.inputs else inputs
    assert (count.valid, count.encoded, count.inputs) == (valid, encoded, inputs)
    assert of_batch(batch.inputs, None, model.tokenizer).encoded == inputs


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("turns") / "run"
    train(folder, small_recipe(("motions", "colours"), **SHAPES))
    return folder


def test_lines_tell_shares_and_padding(run_folder: Path) -> None:
    lines = log_lines(run_folder, "train")
    last = lines[-1]
    assert all(line["tokens_per_second"] > 0 for line in lines)
    assert all(0 <= line["padding"] < 0.5 for line in lines)
    assert last["motions/steps"] == pytest.approx(0.75, abs=0.06)
    assert last["motions/steps"] + last["colours/steps"] == pytest.approx(1)
    assert last["motions/tokens"] + last["colours/tokens"] == pytest.approx(1)


def test_signatures_stand_beside_the_plan(run_folder: Path) -> None:
    first, last = log_lines(run_folder, "signatures")
    assert (first["step"], last["step"]) == (20, 40)
    rows = last["signatures"]
    assert [row["task"] for row in rows] == ["motions", "motions", "colours"]
    assert [row["planned_steps"] for row in rows] == [0.1875, 0.5625, 0.25]
    assert [(row["batch"], row["sample_tokens"]) for row in rows] == [(15, 17), (28, 9), (15, 17)]
    for share in ("steps", "planned_steps", "tokens", "planned_tokens"):
        assert sum(row[share] for row in rows) == pytest.approx(1, abs=1e-3)
    for row in rows:
        assert row["steps"] == pytest.approx(row["planned_steps"], abs=0.15)
        assert row["ms"] > 0


def test_the_report_shows_them(run_folder: Path) -> None:
    log = [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()]
    rows = turn_rows(RunReport(title="", log=log))
    assert [row.shape for row in rows] == ["32 px, 2 frames, drop 0.5", "16 px, 2 frames", "32 px"]
    assert rows[0].steps.endswith(" of 18.8%")
    assert float(rows[0].ms) > 0
    assert not turn_rows(RunReport(title="", log=[line for line in log if line["event"] != "signatures"]))


def test_a_step_of_several_tasks_has_no_time_of_its_own(tmp_path: Path) -> None:
    run = train(tmp_path / "run", small_recipe(("motions", "colours"), evaluation__every=2))
    last = log_lines(tmp_path / "run", "signatures")[-1]["signatures"]
    assert [row["ms"] for row in last] == [None, None]
    assert sum(turn.steps for turn in turns_at(run.mixture, 0)) == pytest.approx(1)


def test_processes_add_up(tmp_path: Path) -> None:
    run = train(tmp_path / "run", small_recipe(("motions", "colours"), **SHAPES | {"steps": 4}))
    alone = TurnFigures(run.mixture, World())
    counts = run._turns._counts()

    class Two(World):
        def gather(self, record: Any) -> list[Any]:
            return [record, record]

    both = TurnFigures(run.mixture, Two())
    for figures in (alone, both):
        for index, stage, batches in counts[0]:
            figures._batches[index, stage] = batches
        for index, stage, tokens in counts[1]:
            figures._tokens[index, stage] = tokens
    assert alone.signatures(0) == both.signatures(0) != TurnFigures(run.mixture, World()).signatures(0)
    assert alone.take(1.0) == both.take(1.0)


def test_info_of_a_recipe_shows_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", values_of(("motions", "colours"), **SHAPES))
    assert cli.main(["info", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: 40 steps of 1 batches"
    assert lines[2].split() == ["task", "shape", "tokens", "batch", "steps", "tokens'", "share"]
    assert lines[3].split() == ["motions", "32", "px,", "2", "frames,", "drop", "0.5", "17", "15", "18.8%", "18.9%"]
    assert len(lines) == 6
    assert cli.main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [turn["batch"] for turn in facts["turns"]] == [15, 28, 15]
    assert "late turns" not in facts
    path = write_recipe(path, values_of(("motions",), tasks__motions__late={"size": 64}, steps=20))
    assert cli.main(["info", str(path)]) == 0
    assert "at the end:" in capsys.readouterr().out
    assert cli.main(["info", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: no such file" in capsys.readouterr().err
