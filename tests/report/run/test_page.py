"""The page of a run: whole, self-contained, deaf to what texts pretend to be, and small."""

import dataclasses
import math
import re
from typing import Any

import numpy as np
import pytest

from tests.report.html import EVIL, Page, assert_harmless
from tests.report.made_up import METRICS, a_log, a_measurement, a_report, some_examples, some_experts, some_results
from uniperceiver.evaluation.examples import Example
from uniperceiver.evaluation.predictions import ClassTable
from uniperceiver.report.run.curves import training_losses, validation_metrics
from uniperceiver.report.run.figures import run_figures
from uniperceiver.report.run.page import render_run
from uniperceiver.report.run.records import RunReport


def an_evil_report() -> RunReport:
    image = np.zeros((9, 7, 3), np.uint8)
    figures = {EVIL: 0.5, f"{EVIL}_low": 0.4, f"{EVIL}_high": 0.6, "chance": 0.1}
    log = [
        {"event": "train", "step": 1, f"{EVIL}/loss": 1.0},
        {"event": "evaluate", "step": 1, f"{EVIL}/{EVIL.replace('/', '')}/accuracy": 0.4},
        {"event": "broken", "step": 1, "task": EVIL, "sample": EVIL, "reason": EVIL},
        {"event": "skipped", "step": 1, "reason": EVIL, "samples": {EVIL: [EVIL]}},
        {"event": "note", "step": 1, "text": EVIL},
    ]
    example = Example(
        task=EVIL,
        split=EVIL,
        sample=EVIL,
        frames=(image, image),
        text=EVIL,
        truth=(EVIL,),
        answers=((EVIL, 0.5), (EVIL, None)),
    )
    return RunReport(
        title=EVIL,
        facts={EVIL: EVIL},
        recipe=f"{EVIL}: {EVIL}\n# {EVIL}",
        log=log,
        results={EVIL: {EVIL: figures}},
        main_metrics={EVIL: EVIL},
        examples=[example],
    )


def test_a_whole_run_has_all_its_sections() -> None:
    page = Page(render_run(a_report()))
    sections = ("Tasks", "Examples", "Curves", "All figures", "Data", "Recipe")
    for words in (*sections, "2 of 3 tasks clearly above chance on held-out data"):
        assert words in page.text
    assert page.tags.count("svg") == 3 + 3 + 3 + 4  # cards, losses, validation, the run
    assert {"learning rate", "gradient norm", "samples per second"} <= set(page.words)


def test_every_task_s_metrics_are_on_the_page() -> None:
    results = some_results(["birds", "words"])
    results["birds"]["val"]["accuracy@1"] = 0.4321
    results["words"]["test"]["bleu4"] = 0.0987
    page = Page(render_run(a_report(["birds", "words"], results=results)))
    assert {"43.2\u202f%", "0.099"} <= set(page.words)
    for task in results:
        for metric in ("bleu4", "loss ↓", "perplexity ↓"):
            assert page.words.count(metric) == len(results), (task, metric)


def test_every_example_is_shown_alike() -> None:
    page = Page(render_run(a_report(["birds"])))
    assert page.count("class", "example") == 4
    assert page.count("class", "picture") == 3
    assert page.count("class", "frame") == 5
    assert {"a square", "82\u202f%", "<1\u202f%", "✓ right", "✗ wrong", "a red box", "a long day [...] ends"} <= (
        set(page.words)
    )
    assert "1 of 2 right" in page.words
    assert page.count("class", "right") == 2  # answers that are the truth


def test_the_page_needs_nothing_else() -> None:
    text = render_run(a_report(experts=some_experts(), interference=[a_measurement()]))
    assert_harmless(text)
    assert not re.search(r"https?:|@import|url\(", text)


def test_texts_never_become_tags() -> None:
    text = render_run(an_evil_report())
    assert_harmless(text)
    assert Page(text).text.count("alert(1)") > 10  # it is shown, as text


@pytest.mark.parametrize(
    "changes",
    [
        {"log": [], "results": {}, "main_metrics": {}, "examples": [], "facts": {}, "recipe": ""},
        {"log": []},
        {"results": {"birds": {}}},
        {"results": {"birds": {"val": {}}}},
        {"results": {"birds": {"val": {"n": 3}}}},
        {"examples": [Example(task="new", split="val", sample="")]},
        {"examples": [Example(task="new", split="val", sample="0", frames=(np.zeros((0, 3, 3), np.uint8),))]},
        {"log": a_log(["birds"], 1)},
        {"log": [{"event": "train"}, {"event": "train", "step": 0, "birds/loss": 1e308, "lr": "x"}, {}]},
    ],
)
def test_whatever_is_missing_leaves_a_page(changes: dict[str, Any]) -> None:
    Page(render_run(a_report(**changes)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, None, True])
def test_figures_that_are_no_numbers_are_dashes(value: Any) -> None:
    metrics = {"accuracy@1": value, "accuracy@1_low": value, "accuracy@1_high": value, "chance": value, "n": value}
    log = [
        {**line, **dict.fromkeys([key for key in line if key not in ("event", "step")], value)}
        for line in a_log(["a"], 30)
    ]
    text = render_run(a_report(["a"], results={"a": {"val": metrics}}, log=log, examples=[]))
    assert "0 of 1 task clearly above chance" in Page(text).text
    assert not re.search(r'[">]\s*-?(nan|inf)\b', text)


def test_above_chance_needs_the_whole_interval_and_the_metric_s_own_chance() -> None:
    page = Page(
        render_run(a_report(["a"], examples=[], log=[], results={"a": {"val": _against(low=0.11, chance_f1=0.2)}}))
    )
    assert "✓ clearly above chance" in page.words
    assert page.words.count("✓") == 2  # in the legend and at the main metric, not at f1
    page = Page(
        render_run(a_report(["a"], examples=[], log=[], results={"a": {"val": _against(low=0.1, chance_f1=0.2)}}))
    )
    assert "not clearly above chance" in page.words


def _against(*, low: float, chance_f1: float) -> dict[str, float]:
    f1 = {"f1": 0.2, "f1_low": 0.15, "f1_high": 0.3, "chance_f1": chance_f1}
    return {"accuracy@1": 0.2, "accuracy@1_low": low, "accuracy@1_high": 0.3, "chance": 0.1, **f1, "n": 50}


def test_the_held_out_split_is_the_headline() -> None:
    results = some_results(["a", "b"])
    del results["a"]["test"], results["b"]["test"], results["b"]["val"]
    text = Page(render_run(a_report(["a", "b"], results=results))).text
    assert "1 of 1 task clearly above chance on held-out data; 1 task measured on training data only" in text


@pytest.mark.slow
def test_a_large_run_is_a_small_file() -> None:
    tasks = [f"task {index}" for index in range(10)]
    noise = np.random.default_rng(0).integers(0, 255, (4, 200, 200, 3)).astype(np.uint8)
    examples = [dataclasses.replace(one, frames=tuple(noise)) for task in tasks for one in some_examples(task)]
    text = render_run(a_report(tasks, lines=5000, examples=examples))
    assert len(text.encode()) < 5_000_000
    paths = [value for name, value in Page(text).attributes if name == "d"]
    assert max(len(re.findall("[ML]", path)) for path in paths) <= 401


def test_what_went_wrong_is_listed() -> None:
    log = [
        {"event": "broken", "step": index, "task": "a", "sample": f"{index}.jpg", "reason": "cut"}
        for index in range(80)
    ]
    log += [{"event": "skipped", "step": 9, "reason": "loss", "samples": {"a": ["1", "2"]}}]
    page = Page(render_run(a_report(log=log)))
    assert "49.jpg" in page.words
    assert "50.jpg" not in page.words
    assert {"and 30 more in log.jsonl", "loss is not finite", "a: 1, 2"} <= set(page.words)


def test_equal_runs_give_equal_pages() -> None:
    report = a_report(experts=some_experts(), interference=[a_measurement(), a_measurement(step=400)])
    assert render_run(report) == render_run(report)


def test_warnings_are_among_the_notes() -> None:
    log = [{"event": "warning", "step": 40, "text": "step 40: routing has collapsed at layer 0 ffn"}]
    page = Page(render_run(a_report(log=log)))
    assert {"Warnings", "step 40: routing has collapsed at layer 0 ffn"} <= set(page.words)


def test_validation_curves_have_the_main_metric_and_its_chance() -> None:
    report = a_report()
    curves = validation_metrics(report)
    assert [(curve.name, curve.metric, split) for curve, split in curves] == (
        [(task, METRICS[place], "val") for place, task in enumerate(report.tasks)]
    )
    assert all(curve.chance == 0.1 and len(curve.series) == 10 for curve, _ in curves)


def test_loss_on_held_out_data_stands_beside_that_of_training() -> None:
    log = a_log(["birds", "words"], 100)
    for place, line in enumerate(line for line in log if line["event"] == "evaluate"):
        line["birds/val/loss"] = [3.0, 2.0, 1.0, 1.25, 1.5][min(place, 4)]
    results = some_results(["birds", "words"])
    results["words"]["val"]["candidates"] = 90  # of a gallery: another number of candidates than a batch has
    report = a_report(["birds", "words"], log=log, results=results)
    birds, words = training_losses(report)
    assert birds.beside is not None
    assert birds.beside.value_N.tolist()[:4] == [3.0, 2.0, 1.0, 1.25]
    assert words.beside is None
    assert "val 1.500 · lowest 1.000 at step 600" in Page(render_run(report)).words


def test_examples_say_what_they_show_and_no_answer_is_said() -> None:
    silent = Example(task="birds", split="val", sample="0", answers=(("", math.nan),))
    page = Page(render_run(a_report(examples=[silent], explained={"birds": "What the model writes.", "words": ""})))
    assert {"What the model writes.", "(no word)"} <= set(page.words)


@pytest.mark.parametrize(("classes", "is_open"), [(3, True), (40, False)])
def test_figures_of_few_classes_are_open(classes: int, is_open: bool) -> None:
    table = ClassTable.of([f"class {number}" for number in range(classes)], 2 * np.eye(classes, dtype=int))
    page = Page(render_run(a_report(["birds"], recipe="", classes={"birds": {"val": table}})))
    assert (("open", "") in page.attributes) == is_open


def test_all_figures_of_a_run_stand_alone() -> None:
    measured = [a_measurement(step=step) for step in (200, 400)]
    figures = run_figures(a_report(experts=some_experts(), interference=measured))
    layer = "interference_over_training_encoder_blocks_{}_ffn_linear2_weight"
    assert list(figures) == [
        "metrics_accuracy_1",
        "metrics_masked_accuracy",
        "metrics_cider_d",
        "training_loss",
        "validation",
        "run",
        "experts_attention",
        "experts_ffn",
        "interference",
        "interference_over_depth_encoder_blocks___ffn_linear2_weight",
        layer.format(0),
        layer.format(1),
    ]
    assert len(figures["training_loss"].axes) == 3
    assert run_figures(RunReport(title="nothing")) == {}


def test_sounds_can_be_heard_as_long_as_there_is_room() -> None:
    loud = bytes(1_000_000)
    examples = [Example(task="birds", split="val", sample=f"{n}.wav", sound=loud if n else b"RIFF") for n in range(5)]
    text = render_run(a_report(["birds"], examples=examples))
    assert_harmless(text)
    page = Page(text)
    assert page.tags.count("audio") == 3
    assert page.words.count("sound left out") == 2
    assert ("src", "data:audio/wav;base64,UklGRg==") in page.attributes
    assert "audio" not in Page(render_run(a_report(["birds"]))).tags
