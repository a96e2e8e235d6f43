"""`uniperceiver merge`: rows and sizes are told, a model is written that can be asked, and mistakes are one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.small_run import small_recipe, train
from uniperceiver import load
from uniperceiver.cli import main

ASKED = ("colours", "captions", "retrieval", "words")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four tasks, each with a copy of its own; nobody may change it."""
    folder = tmp_path_factory.mktemp("runs") / "copies"
    train(folder, small_recipe(ASKED, steps=2, moe__condition="task_specific"))
    return folder


@pytest.fixture(scope="module")
def attributes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose experts are chosen by attributes; nobody may change it."""
    folder = tmp_path_factory.mktemp("runs") / "attributes"
    train(folder, small_recipe(ASKED, steps=2, moe={"condition": "attribute", "experts": 3}))
    return folder


def report_of(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> dict[str, Any]:
    assert main(["merge", *arguments, "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def said(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line about a mistake."""
    assert main(["merge", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_rows_and_sizes(attributes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(capsys, [str(attributes), "--out", str(tmp_path / "merged")])
    assert report["model"] == str(tmp_path / "merged")
    assert {name: size["rows"] for name, size in report["tasks"].items()} == {
        "colours": 2,
        "captions": 3,
        "retrieval": 2,
        "words": 2,
    }
    assert report["routed"]["rows"] == 3
    assert report["together"]["rows"] == 7
    assert "more rows than experts (3)" in report["together"]["note"]
    assert "as many rows as experts (3)" in report["tasks"]["captions"]["note"]
    assert "note" not in report["tasks"]["colours"]
    for folder, size in ((attributes, report["routed"]), (tmp_path / "merged", report["together"])):
        assert size["parameters"] == sum(each.numel() for each in load(folder).model.parameters())
    each = 2 * (12 * 16**2 + 9 * 16) // 2  # a layer of width 16 has so many parameters in its linears
    assert report["together"]["parameters"] - report["tasks"]["captions"]["parameters"] == 4 * each


def test_a_copy_for_each_task(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "merged"
    assert main(["merge", str(run), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == [
        "",
        "with experts",
        *(f"{name} alone" for name in ASKED),
        "all of them, as saved",
        f"model: {out}",
    ]
    assert lines[-2].endswith("as many rows as experts (4): no smaller than the model with experts, only faster")
    assert main(["merge", str(run), "--out", str(out)]) == 0  # the same again
    others = [str(run), "--out", str(out), "--task", "captions", "words", "--task", "words"]
    line = said(capsys, others)
    assert f"{out}: holds another model (2 steps" in line
    assert line.endswith("captions, retrieval, words), which would be lost; give another folder, or --replace")
    assert main(["merge", *others, "--replace", "--json"]) == 0
    streams = capsys.readouterr()
    assert "words) was there, and is replaced" in streams.err
    report = json.loads(streams.out)
    assert list(report["tasks"]) == ["captions", "words"]
    assert [report["together"]["rows"], report["tasks"]["words"]["rows"]] == [2, 1]
    assert load(out).saved.arch.merged.tasks == ("captions", "words")  # type: ignore[union-attr]


def test_the_merged_model_is_asked_and_measured(
    attributes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)).save(picture)
    report_of(capsys, [str(attributes), "--out", str(tmp_path / "merged")])
    answers = []
    for model in (attributes, tmp_path / "merged"):
        assert main(["predict", str(model), "classify", "--task", "colours", "--json", str(picture)]) == 0
        answers.append(json.loads(capsys.readouterr().out)[0])
    assert answers[0]["scores"] == pytest.approx(answers[1]["scores"], rel=1e-5)
    figures = []
    for model in (attributes, tmp_path / "merged"):
        call = ["--data", str(attributes / "recipe.yaml"), "--split", "val", "--json", str(tmp_path / "figures.json")]
        assert main(["evaluate", str(model), *call]) == 0
        figures.append(json.loads((tmp_path / "figures.json").read_text())["tasks"])
    for name in ASKED:
        assert figures[0][name]["val"] == pytest.approx(figures[1][name]["val"], rel=1e-4), name


def test_info_tells_what_the_experts_became(
    attributes: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report_of(capsys, [str(attributes), "--out", str(tmp_path / "merged"), "--task", "colours"])
    told = {}
    for name, folder in (("dense", trained), ("routed", attributes), ("merged", tmp_path / "merged")):
        assert main(["info", str(folder), "--json"]) == 0
        told[name] = json.loads(capsys.readouterr().out)
        assert main(["info", str(folder)]) == 0
        assert "experts:" in capsys.readouterr().out
    assert told["dense"]["experts"] == "none: a dense model"
    experts = told["routed"]["experts"]
    assert (experts["condition"], experts["experts"], experts["k"], experts["merged"]) == ("attribute", 3, 2, False)
    assert experts["attention layers"] == experts["ffn layers"] == [0]
    merged = told["merged"]["experts"]
    assert (merged["rows"], merged["merged"], merged["merged for"]) == (2, True, ["colours"])
    assert told["merged"]["parameters"] < told["routed"]["parameters"]
    assert set(told["merged"]["tasks"]) == set(ASKED)


def test_mistakes_are_one_line(
    attributes: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in (attributes / "model").iterdir()}
    out = str(tmp_path / "merged")
    assert "this model is dense: it has no experts to merge" in said(capsys, [str(trained), "--out", out])
    assert "did you mean 'colours'?" in said(capsys, [str(attributes), "--out", out, "--task", "colour"])
    assert "neither a saved model" in said(capsys, [str(tmp_path), "--out", out])
    for place in (attributes / "model", attributes / "model" / ".." / "model"):
        line = said(capsys, [str(attributes), "--out", str(place)])
        assert "is the model itself, whose experts would be lost; give another folder" in line
    assert "holds other files, such as " in said(capsys, [str(attributes), "--out", str(attributes)])
    assert not Path(out).exists()
    report_of(capsys, [str(attributes), "--out", out])
    assert "this model is merged already, for colours, cap" in said(capsys, [out, "--out", str(tmp_path / "again")])
    assert {path: path.read_bytes() for path in (attributes / "model").iterdir()} == before


@pytest.mark.parametrize("condition", ["token", "context"])
def test_routing_by_values_is_refused(condition: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "run", small_recipe(("colours",), steps=1, moe={"condition": condition, "experts": 3}))
    capsys.readouterr()
    line = said(capsys, [str(tmp_path / "run"), "--out", str(tmp_path / "merged")])
    assert f"moe.condition={condition} cannot be merged: it chooses experts by the values of the tokens" in line


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["merge", "--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("--out DIR", "--task NAME", "--json"))
