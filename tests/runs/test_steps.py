"""The best checkpoint, and any other that is kept, can be loaded, measured, merged, asked and begun with."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.small_run import log_lines, small_recipe, train
from uniperceiver import UniPerceiver, evaluate, load
from uniperceiver.cli import main
from uniperceiver.errors import UserError
from uniperceiver.evaluation.evaluate import metric_names
from uniperceiver.runs.checks.recipe import check_best
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.runs.steps import best_step, load_saved
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.training import checkpoint

CHANGES = {"steps": 4, "evaluation__every": 1, "checkpoint__keep": 1, "moe": {"condition": "modality", "experts": 2}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with averaged weights, whose second step is the best; nobody may change it."""
    folder = tmp_path_factory.mktemp("best") / "run"
    made = prepare_run(small_recipe(("colours", "captions"), optimiser__ema=0.5, **CHANGES), folder, folder, quiet=True)
    scores = iter([3.0, 1.25, 2.0, 1.71])
    object.__setattr__(made.callbacks, "evaluate", lambda state, stop, log: (next(scores), {}))
    made.train()
    return folder


def weights(model: UniPerceiver) -> torch.Tensor:
    return model.model.tokenizer.words.words


def test_the_best_and_any_kept_step_are_loaded(run: Path) -> None:
    tensors = {step: checkpoint.read(run / "checkpoints" / f"step-00000{step}")[0]["average"] for step in (2, 4)}
    assert best_step(run) == 2
    for step, number in ((None, 4), (4, 4), ("best", 2), (2, 2)):
        model = load(run, step=step)  # type: ignore[arg-type]
        assert torch.equal(weights(model), tensors[number]["tokenizer.words.words"])
        assert model.saved.trained.startswith(f"{number} steps on colours, captions")
    assert not torch.equal(tensors[2]["tokenizer.words.words"], tensors[4]["tokenizer.words.words"])
    with pytest.raises(UserError, match="run has no checkpoint of step 3, only of 2, 4; train with"):
        load(run, step=3)


def test_it_is_measured_merged_asked_and_begun_with(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, last = (evaluate(run, step=step, task="colours", splits=["val"], quiet=True) for step in ("best", 4))  # type: ignore[arg-type]
    assert best != last
    words = ["evaluate", str(run), "--task", "colours", "--split", "val", "--json", str(tmp_path / "r.json")]
    assert main([*words, "--step", "best"]) == 0
    assert json.loads((tmp_path / "r.json").read_text()) == json.loads(json.dumps(best))
    assert main(["merge", str(run), "--step", "2", "--out", str(tmp_path / "merged")]) == 0
    assert torch.equal(weights(load(tmp_path / "merged")), weights(load(run, step=2)))
    load(run, step="best").save_pretrained(tmp_path / "alone")
    capsys.readouterr()
    ask = ["classify", "--labels", "a", "b", "--json", "--", str(tmp_path / "p.png")]
    answers = []

    Image.new("RGB", (32, 32), (200, 30, 90)).save(tmp_path / "p.png")
    for place in ([str(run), "--step", "best"], [str(tmp_path / "alone")], [str(run)]):
        assert main(["predict", place[0], *ask[:1], *place[1:], *ask[1:]]) == 0
        answers.append(json.loads(capsys.readouterr().out)[0]["scores"])
    assert answers[0] == answers[1] != answers[2]
    start = {"model__start": str(run), "model__start_step": "best", "moe": CHANGES["moe"]}
    begun = prepare_run(small_recipe(("colours", "captions"), **start), tmp_path, tmp_path / "begun")
    assert torch.equal(begun.state.model.tokenizer.words.words, weights(load(run, step="best")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "{run}", "--step", "bst"], "--step: 'bst' is neither a number of steps nor best"),
        (["evaluate", "{run}/model", "--step", "best"], "has no best checkpoint: it is no run, was not evaluated"),
        (
            ["merge", "{run}/model", "--step", "2", "--out", "{tmp}/m"],
            "has no checkpoint of step 2, only of none; give",
        ),
        (["tune", "{run}", "{tmp}", "--step", "2", "--out", "{tmp}/t"], "model.start_step: prompts are saved beside"),
    ],
)
def test_what_is_refused(
    run: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:

    for name in "ab":
        for number in range(5):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("RGB", (32, 32)).save(tmp_path / name / f"{number}.png")
    assert main([word.format(run=run, tmp=tmp_path) for word in words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / "t").exists()


def test_a_run_without_evaluations_has_no_best(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no best checkpoint: it is no run"):
        load_saved(trained, "best")
    with pytest.raises(UserError, match=r"model\.start_step: has no meaning without"):
        prepare_run(small_recipe(model__start_step=3), tmp_path, tmp_path / "run")


def test_it_is_said_where_the_last_is_not_the_best(run: Path, trained: Path) -> None:
    (note,) = [line for line in log_lines(run, "note") if "best" in line]
    assert note["best"] == 2
    assert note["text"].startswith("the best checkpoint by score is that of step 2, not the last, which is in ")
    assert re.search(r"to use it: --step best, or load\('.*', step=\"best\"\)$", note["text"])
    assert not any("best" in line for line in log_lines(trained, "note"))


def test_a_named_metric_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = iter([(0.2, 1.0), (0.6, 3.0), (0.5, 2.0)])  # accuracy, loss

    def measured(*args: object, **more: object) -> dict[str, float]:
        accuracy, loss = next(figures)
        return {"accuracy@1": accuracy, "loss": loss, "chance": 0.1}

    monkeypatch.setattr("uniperceiver.runs.validation.evaluate", measured)
    recipe = small_recipe(("colours",), steps=3, evaluation__every=1, checkpoint__best="colours/accuracy@1")
    assert train(tmp_path, recipe).state.best == {"step": 2, "score": -0.6, "by": "colours/accuracy@1"}
    assert [line["score"] for line in log_lines(tmp_path, "evaluate")] == [1.0, 3.0, 2.0]
    assert best_step(tmp_path) == 2
    figures = iter([(0.1, 2.5)])  # by the loss from now on: what was best by another figure is no measure
    again = small_recipe(("colours",), steps=4, evaluation__every=1)
    assert train(tmp_path, again).state.best == {"step": 4, "score": 2.5}


def test_a_metric_that_is_not_measured_is_refused(trained: Path) -> None:
    tasks = [CATALOGUE["image_classification"]]
    for best, mend in (
        ("image_classification/acuracy@1", "did you mean 'image_classification/accuracy@1'?"),
        ("scor", "did you mean 'score'?"),
    ):
        with pytest.raises(UserError, match=re.escape(f"checkpoint.best: no metric {best!r}; {mend}")):
            check_best(small_recipe(checkpoint__best=best), tasks)
    metrics = evaluate(trained, splits=["val"], quiet=True)["tasks"]
    for name, known in load(trained).saved.tasks.items():
        few = {"accuracy@5"} if len(known.task.labels) <= 5 else set()
        assert set(metric_names(known.task)) - few <= set(metrics[name]["val"]), name
