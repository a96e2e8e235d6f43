"""A task over a picture and a text, from a recipe to its report: questions about scenes in a JSON Lines file."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.small_run import BASE, merged, write_recipe
from uniperceiver import load
from uniperceiver.cli import main
from uniperceiver.data.scenes.source import ScenesSource

QUESTION = "what colour is the thing ?"


def write_questions(folder: Path, count: int = 12) -> None:
    """Pictures with a question each, whose answer is the colour of the thing."""
    source = ScenesSource(items=count, pixels=32, objects=1, label="colour")
    names = [texts[0] for texts in source.classes]
    rows = []
    for index in range(count):
        sample = source.read(index)
        Image.fromarray(sample.image).save(folder / f"{index}.png")
        rows.append({"picture": f"{index}.png", "question": QUESTION, "answer": names[sample.label]})
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the one task."""
    folder = tmp_path_factory.mktemp("questions")
    write_questions(folder)
    source = {
        "format": "jsonl",
        "path": "questions.jsonl",
        "image": "picture",
        "text": "question",
        "label": "answer",
    }
    task = {"kind": "visual_question_answering", "train": source, "val": source, "batch": 4, "size": 32, "length": 32}
    values = merged({**BASE, "tasks": {"questions": task}}, {"moe.condition": "attribute", "moe.experts": 2})
    recipe = write_recipe(folder / "recipe.yaml", values)
    assert main(["train", str(recipe), "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_it_is_measured_and_shown(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())["tasks"]["questions"]
    assert results["val"]["n"] == 12
    assert 0 <= results["val"]["accuracy@1"] <= 1
    page = (run / "report.html").read_text(encoding="utf-8")
    assert QUESTION in page  # an example with its question
    assert page.count("data:image/") >= 4  # and its picture


def test_it_is_evaluated_from_the_command_line(run: Path, tmp_path: Path) -> None:
    assert main(["evaluate", str(run), "--split", "train", "--json", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["tasks"]["questions"]["train"]["n"] == 12


def test_a_question_is_asked_about_a_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(run.parent / "0.png")
    words = ["predict", str(run), "classify", "--task", "questions", "--question", QUESTION, "--json", "--", picture]
    assert main(words) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    expected = load(run).classify(picture, task="questions", texts=QUESTION)[0]
    names = [texts[0] for texts in load(run).saved.tasks["questions"].task.labels]
    assert answer["scores"] == pytest.approx(dict(zip(names, expected.tolist(), strict=True)))


def test_a_question_that_is_missing_is_asked_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run), "classify", "--task", "questions", "--", str(run.parent / "0.png")]) == 2
    assert "give it with --question TEXT" in capsys.readouterr().err


def test_it_is_merged(run: Path, tmp_path: Path) -> None:
    assert main(["merge", str(run), "--out", str(tmp_path / "merged")]) == 0
    picture = str(run.parent / "3.png")
    rows = [load(path).classify(picture, task="questions", texts=QUESTION) for path in (run, tmp_path / "merged")]
    assert rows[0].tolist()[0] == pytest.approx(rows[1].tolist()[0], abs=1e-5)
