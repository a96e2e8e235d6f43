"""The page of a study says what came out, and draws it."""

import dataclasses
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.studies.made_up import ARMS, METRICS, a_band, a_row, a_study, an_arm
from uniperceiver.studies.page import render_study
from uniperceiver.studies.page_charts import dots, lines, with_error
from uniperceiver.studies.page_tables import first_rows, gap_text, percent
from uniperceiver.studies.records import SeedEstimate, SeedSpread

EMPTY = {"meta", "img", "br"}


class _Balanced(HTMLParser):
    """Notes tags that are not closed in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open += [] if tag in EMPTY else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(page: str) -> str:
    """The text of a page whose tags are closed in order."""
    parser = _Balanced()
    parser.feed(page)
    assert not parser.open
    return "\n".join(parser.texts)


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    page = render_study(a_study())
    text = read(page)
    assert "task_specific is clearly better than shared on" not in text  # words: a loss that rose is worse
    assert "task_specific is clearly worse than shared on words; no gap on the other 2." in text
    assert "gap closed 20.0\u202f% ± 5.0" in text
    assert "<b>out" in text  # the last lines of a run are text, not tags
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)
    assert page.count('class="spread"') == len(ARMS) * len(METRICS)
    assert page.count('class="seed"') == 3 * len(ARMS) * len(METRICS)


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


def test_what_cannot_be_said_is_a_dash() -> None:
    assert percent(SeedEstimate(value=math.nan, error=math.nan, paired=True)) == "–"
    assert percent(SeedEstimate(value=0.5, error=math.nan, paired=True)) == "50.0\u202f%"


@pytest.mark.parametrize(
    ("value", "error", "metric", "text"),
    [
        (0.47, 0.0094, "loss", "0.470 ± 0.009"),
        (0.47, 0.0004, "loss", "0.470 ± 0.0004"),
        (0.47, 0.0, "loss", "0.470 ± 0.000"),
        (27.44, 1.26, "cider_d", "27.4 ± 1.3"),
        (0.742, 0.0126, "accuracy@1", "74.2\u202f% ± 1.3"),
        (0.742, math.nan, "accuracy@1", "74.2\u202f%"),
        (math.nan, math.nan, "loss", "–"),
    ],
)
def test_errors_have_as_many_decimals(value: float, error: float, metric: str, text: str) -> None:
    assert with_error(value, error, metric) == text


def test_dots_lie_in_the_order_of_their_values() -> None:
    row = a_row("words", "val", gap=True)
    picture = dots(ARMS, row).text
    places = [float(x) for x in re.findall(r'class="mean" cx="([\d.]+)"', picture)]
    assert len(places) == len(ARMS)
    assert places == sorted(places)
    assert max(places) < 320
    lost = {**row.arms, "token": SeedSpread(mean=math.nan, error=math.nan, seeds={0: math.nan})}
    less = dots(ARMS, dataclasses.replace(row, arms=lost)).text
    assert less.count('class="mean"') == len(ARMS) - 1
    assert "nan" not in less


def test_a_band_reaches_from_the_lowest_to_the_highest() -> None:
    picture = lines(["one"], {"one": a_band(1.0)}, "a title").text
    (points,) = re.findall(r'points="([^"]+)"', picture)
    numbers = np.array(points.split(), dtype=float).reshape(-1, 2)
    there, back = numbers[:40], numbers[40:][::-1]
    assert np.array_equal(there[:, 0], back[:, 0])
    assert (there[:, 1] < back[:, 1]).all()  # higher values are further up
