"""A task with several right classes is trained and measured."""

from pathlib import Path

from tests.small_run import BASE, merged, train
from uniperceiver.config import Recipe
from uniperceiver.runs.evaluate import evaluate
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.strict import parse


def test_tags_are_trained_and_measured(tmp_path: Path) -> None:
    colours, things = ["blue", "red"] * 6, ["star", "circle", "circle"] * 4
    rows = [
        f"{colour} {thing},{colour}|{'round' * (thing == 'circle')}"
        for colour, thing in zip(colours, things, strict=True)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["text,tags", *rows]) + "\n")
    source = {"format": "csv", "path": str(tmp_path / "t.csv"), "text": "text", "label": "tags", "separator": "|"}
    task = {"kind": "text_tagging", "batch": 6, "length": 24, "train": source, "val": source}
    recipe = parse(Recipe, merged(BASE, {"tasks": {"tags": task}, "steps": 3}), "r")
    train(tmp_path / "run", recipe)
    rows_of = tmp_path / "answers.jsonl"
    metrics = evaluate(tmp_path / "run", predictions=rows_of, quiet=True)["tasks"]["tags"]["val"]
    assert metrics["n"] == 12
    assert 0 < metrics["mAP_low"] <= metrics["mAP"] <= metrics["mAP_high"] <= 1
    assert metrics["chance"] == (0.5 + 0.5 + 8 / 12) / 3
    assert metrics["loss"] > 0
    assert len(rows_of.read_text().splitlines()) == 12
    probabilities = UniPerceiver.from_pretrained(tmp_path / "run").classify(["red star"], task="tags")
    assert probabilities.shape == (1, 3)
