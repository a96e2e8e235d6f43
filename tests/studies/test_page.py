"""The page of a study says what came out, and draws it."""

import dataclasses
import json
import math
import re

import pytest

from tests.report.html import EVIL, Page, assert_harmless
from tests.studies.made_up import ARMS, METRICS, a_band, a_row, a_study, an_arm
from uniperceiver.strict import to_json
from uniperceiver.studies.page import TextCell, _time, first_rows, gap_text, percent, render_study, study_figures
from uniperceiver.studies.records import MetricRow, SeedEstimate, SeedSpread, StudyArm
from uniperceiver.studies.study import as_json


def read(page: str) -> str:
    """The text of a page whose tags are closed in order."""
    return Page(page).text


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    page = render_study(a_study())
    text = read(page)
    assert "task_specific is clearly better than shared on" not in text  # words: a loss that rose is worse
    assert "task_specific is clearly worse than shared on words; no gap on the other 2." in text
    assert "gap closed 20.0\u202f% ± 5.0" in text
    assert "<b>out" in text  # the last lines of a run are text, not tags
    assert_harmless(page)
    assert not re.search(r"https?:|@import|url\(", page)
    assert page.count("<svg") == 2 * len(METRICS)
    assert Page(page).count("class", "spot") == len(ARMS) * len(METRICS)


def test_nothing_is_left_out_where_there_is_nothing() -> None:
    page = render_study(a_study(rows=(), curves=None, failures=(), arms=[an_arm("shared")]))
    assert "No run has ended yet." in read(page)
    assert 'id="figures"' not in page
    rows = [dataclasses.replace(a_row("words", "val", gap=False), gap=None)]
    assert "6 arms, compared on 1 tasks." in render_study(a_study(rows=rows, baseline=None, reference=None))


def test_a_loss_that_falls_is_better() -> None:
    row = dataclasses.replace(a_row("words", "val", gap=True), gap=SeedEstimate(value=-0.07, error=0.02, paired=True))
    assert "task_specific is clearly better than shared on words." in read(render_study(a_study(rows=[row])))


def test_the_first_figures_are_held_out() -> None:
    report = a_study()
    assert [(row.task, row.split) for row in first_rows(report)] == [(task, "val") for task in METRICS]


@pytest.mark.parametrize(
    ("arm", "gap", "text"),
    [
        ("shared", True, "baseline"),
        ("task_specific", False, "reference"),
        ("task", True, "gap closed 10.0\u202f% ± 5.0"),
        ("task", False, "no gap"),
        ("absent", True, ""),
    ],
)
def test_the_words_of_a_gap(arm: str, gap: bool, text: str) -> None:
    assert gap_text(a_row("words", "val", gap=gap), arm, a_study()) == text


def without_reference(**differences: SeedEstimate) -> MetricRow:
    """A loss of `shared` and of other arms, each so much more."""
    row = a_row("words", "val", gap=False)
    arms = {name: row.arms[name] for name in ("shared", *differences)}
    return dataclasses.replace(row, arms=arms, gap=None, differences=differences)


def of_three_seeds(value: float, error: float) -> SeedEstimate:
    return SeedEstimate(value=value, error=error, paired=True, freedom=2.0)  # Student's t: 4.30


def test_without_a_reference_each_arm_is_compared_with_the_baseline() -> None:
    row = without_reference(
        modality=of_three_seeds(-0.05, 0.01), task=of_three_seeds(0.05, 0.01), token=of_three_seeds(-0.04, 0.01)
    )
    report = a_study(rows=[row], reference=None)
    words = [gap_text(row, arm, report) for arm in ("shared", "modality", "task", "token", "absent")]
    assert words == ["baseline", "clearly better", "clearly worse", "no difference", ""]
    text = read(render_study(report))
    assert "modality is clearly better than shared on words; task is clearly worse than shared on words." in text
    assert "Clearly better or worse than shared: by more than 4.30 standard errors of the difference" in text
    row = without_reference(token=of_three_seeds(-0.04, 0.01))
    text = read(render_study(a_study(rows=[row], reference=None)))
    assert "No arm differs from shared on any task by more than chance may do." in text


def test_what_cannot_be_said_is_a_dash() -> None:
    assert percent(SeedEstimate(value=math.nan, error=math.nan, paired=True)) == "–"
    assert percent(SeedEstimate(value=0.5, error=math.nan, paired=True)) == "50.0\u202f%"


def test_hostile_names_stay_texts() -> None:
    arms = [dataclasses.replace(an_arm("shared"), name=EVIL, keys={EVIL: EVIL})]
    rows = [
        dataclasses.replace(
            a_row("words", "val", gap=False), task=EVIL, arms={EVIL: a_row("words", "val", gap=False).arms["shared"]}
        )
    ]
    report = a_study(title=EVIL, study=EVIL, arms=arms, rows=rows, curves={EVIL: {EVIL: {EVIL: a_band(1.0)}}})
    assert_harmless(render_study(report))


def test_equal_studies_are_equal_pages() -> None:
    assert render_study(a_study()) == render_study(a_study())


def test_figures_for_a_paper_show_all_tasks_at_once() -> None:
    figures = study_figures(a_study())
    assert list(figures) == ["seeds", "training_loss"]
    assert [len(figure.axes) for figure in figures.values()] == [len(METRICS), len(METRICS)]


def test_study_json_holds_the_curves_that_the_page_draws() -> None:
    report = a_study()
    written = json.loads(to_json(as_json(report)))["curves"]
    assert report.curves is not None
    assert {title: {task: set(arms) for task, arms in tasks.items()} for title, tasks in written.items()} == {
        title: {task: set(arms) for task, arms in tasks.items()} for title, tasks in report.curves.items()
    }
    curve, band = written["Training loss"]["words"]["token"], report.curves["Training loss"]["words"]["token"]
    assert curve == {"step": [*band.step_P], "mean": [*band.mean_P], "low": [*band.low_P], "high": [*band.high_P]}
    assert json.loads(to_json(as_json(a_study(curves=None))))["curves"] == {}


def test_the_page_says_what_makes_a_gap_and_how_often_chance_does() -> None:
    row = a_row("words", "val", gap=True)
    assert row.gap is not None
    text = read(render_study(a_study(rows=[dataclasses.replace(row, gap=dataclasses.replace(row.gap, freedom=2.0))])))
    assert (
        "differ by more than 4.30 standard errors of their difference (seeds paired by number; Student's t: 5" in text
    )
    rows = [a_row("words", "val", gap=False)]
    assert "differ on no task by more than chance may do" in read(render_study(a_study(rows=rows)))


@pytest.mark.parametrize(
    ("ratio", "text", "below"),
    [
        (None, "31.2 ms", ""),
        (SeedEstimate(value=1.5, error=0.25, paired=True), "1.50 ± 0.25", "31.2 ms"),
        (SeedEstimate(value=1.5, error=float("nan"), paired=True), "1.50", "31.2 ms"),
        (SeedEstimate(value=float("nan"), error=0.25, paired=True), "31.2 ms", ""),
    ],
)
def test_the_time_of_a_step_is_in_milliseconds(ratio: SeedEstimate | None, text: str, below: str) -> None:
    seconds = SeedSpread(mean=0.0312, error=0.001, seeds={0: 0.0312})
    arm = StudyArm(name="a", keys={}, done=[0], failed=[], step_seconds=seconds, time_ratio=ratio)
    assert _time(arm) == TextCell(text=text, below=below)
    assert _time(StudyArm(name="a", keys={}, done=[], failed=[0])) == TextCell(text=None)
