"""Interference in the report: heat maps with their numbers, curves over depth and training, and what is missing."""

import math
import re
from importlib.resources import files
from itertools import combinations

import pytest

from tests.report.made_up import TASKS, a_layer, a_measurement, a_report, a_table
from tests.report.test_run_report import EVIL, Page
from uniperceiver.interference.records import Interference
from uniperceiver.report.interference import interference_section
from uniperceiver.report.interference_cells import rows_of, short_names, signed, strength
from uniperceiver.report.run_report import render

HOW = "row: the task that is affected; column: the task that takes the step; positive helps, negative hurts"


def section(*measured: Interference, tasks: tuple[str, ...] = TASKS) -> str:
    html = interference_section(a_report(tasks, interference=measured))
    assert html is not None
    return html.text


def squares(text: str) -> list[tuple[str, str, str]]:
    """Class, style and content of each square of the heat maps."""
    found = re.findall(r'<td title="[^"]*" class="(\w+)"(?: style="([^"]*)")?>(.*?)</td>', text)
    return [(side, style, content) for side, style, content in found]


def test_nothing_measured_is_no_section() -> None:
    assert interference_section(a_report()) is None
    assert interference_section(a_report(interference=[a_measurement(layers=())])) is None
    assert "Interference" not in Page(render(a_report())).words


def test_the_section_says_how_to_read_it() -> None:
    page = Page(render(a_report(interference=[a_measurement(step=1200)])))
    assert HOW in page.text
    assert "after 1,200 training steps on 100 batches per task, for the parameters *.ffn.linear2.weight" in page.text
    assert ("href", "#interference") in page.attributes
    assert ("id", "interference") in page.attributes


def test_a_square_for_each_pair_of_tasks_row_by_row() -> None:
    matrix = ((1.0, 0.25, -0.5), (0.0, 1.0, None), (2.0, -0.004, 1.0))
    found = squares(section(a_measurement(layers=(a_layer(matrix=matrix),))))
    assert [side for side, _, _ in found] == ["own", "helps", "hurts", "helps", "own", "none", "helps", "hurts", "own"]
    assert [re.sub("<.*?>", "", content) for _, _, content in found] == (
        ["1", "+0.25", "−0.50", "0.00", "1", "–", "+2.00", "0.00", "1"]
    )
    styles = [style for _, style, _ in found]
    assert styles[1] == f"--share:{100 * 0.25**0.6:.0f}%"
    assert styles[6] == "--share:100%"  # twice the own step is no stronger than once
    assert styles[0] == styles[5] == ""


def test_bold_is_what_is_clearly_not_nothing() -> None:
    matrix = a_table(0.3)
    low = ((0.9, 0.1, -0.1), (-0.2, 0.9, 0.0), (None, -0.4, 0.9))
    high = ((1.1, 0.5, 0.5), (-0.1, 1.1, 0.5), (0.3, None, 1.1))
    found = squares(section(a_measurement(layers=(a_layer(matrix=matrix, low=low, high=high),))))
    bold = [content.startswith("<b>") for _, _, content in found]
    assert bold == [False, True, False, True, False, False, False, False, False]


def test_the_legend_says_what_there_is() -> None:
    plain = section(a_measurement(layers=(a_layer(low=a_table(None, None), high=a_table(None, None)),)))
    assert "not measurable" not in plain
    assert "bold" not in plain
    assert "<b>" not in plain
    holes = section(a_measurement(layers=(a_layer(matrix=a_table(None)),)))
    assert "not measurable" in holes
    assert "bold" in holes


def test_figures_are_shown_where_one_points() -> None:
    layer = a_layer(
        matrix=a_table(0.32),
        low=a_table(0.1),
        high=a_table(0.5),
        mean_of_ratios=a_table(0.4),
        cosine=a_table(-0.05),
        conflict_rate=a_table(0.57),
    )
    titles = re.findall(r'<td title="([^"]*)"', section(a_measurement(layers=(layer,))))
    assert titles[1] == (
        "birds, when words takes the step · +0.32 (95\u202f% interval +0.10 to +0.50) · mean of ratios +0.40 · "
        "cosine −0.05 · conflict in 57\u202f% of the pairs"
    )
    assert titles[0].startswith("birds, by its own step · +1.00")
    assert titles[3].startswith("words, when birds takes the step")


def test_the_newest_measurement_is_shown_in_any_order() -> None:
    old, new = (a_measurement(step=step, layers=(a_layer(matrix=a_table(step / 1000)),)) for step in (200, 400))
    for text in (section(old, new), section(new, old)):
        assert "after 400 training steps" in text
        assert {content for side, _, content in squares(text) if side == "helps"} == {"+0.40"}


def test_many_layers_are_folded_but_for_first_middle_and_last() -> None:
    text = section(a_measurement(layers=tuple(a_layer(depth) for depth in range(24))))
    shown, hidden = text.split("<details", 1)
    assert re.findall(r">layer (\d+)<", shown) == ["0", "12", "23"]
    assert "21 more layers" in hidden
    assert len(re.findall(r">layer (\d+)<", hidden.split("</details>")[0])) == 21
    assert "<details" not in section(a_measurement(layers=tuple(a_layer(depth) for depth in range(4))))


def test_24_layers_and_8_tasks_are_a_page() -> None:
    tasks = tuple(f"a task with a long name, number {place}" for place in range(8))
    layers = tuple(a_layer(depth, tasks=8) for depth in range(24))
    text = section(a_measurement(tasks, layers=layers), a_measurement(tasks, step=900, layers=layers), tasks=tasks)
    assert len(text.encode()) < 900_000
    assert len(squares(text)) == 24 * 64
    assert text.count('class="turned"') == 24
    heads = re.findall(r'<th scope="col"[^>]*><span>([^<]*)</span>', text)[:8]
    assert len(set(heads)) == 8
    assert max(map(len, heads)) <= 14
    assert '<path class="line dashed"' in text


def test_names_never_become_tags() -> None:
    layer = a_layer(0, tasks=2, kind=EVIL)
    measured = [
        a_measurement((EVIL, "b"), step=step, layers=(layer, a_layer(1, tasks=2, kind=EVIL))) for step in (1, 2)
    ]
    page = Page(render(a_report(("b",), interference=measured)))
    assert not {"script", "x"} & set(page.tags)
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_one_task_alone_leaves_a_page() -> None:
    measured = a_measurement(("birds",), layers=(a_layer(0, tasks=1), a_layer(1, tasks=1)))
    assert [side for side, _, _ in squares(section(measured))] == ["own", "own"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.324, "+0.32"), (-0.08, "−0.08"), (0.0, "0.00"), (-0.001, "0.00"), (14.2, "+14"), (9.996, "+10")),
        *((-2345.0, "−2e+03"), (999.6, "+1e+03"), (None, "–")),
    ],
)
def test_numbers_are_written_with_their_sign(value: float | None, text: str) -> None:
    assert signed(value) == text


def test_the_colour_grows_with_the_value_up_to_the_own_step() -> None:
    found = [strength(value) for value in (0.0, 0.02, 0.3, 0.9, 1.0, 50.0)]
    assert found == sorted(found)
    assert (found[0], found[-2], found[-1]) == (0, 1, 1)
    assert strength(-0.3) == strength(0.3)
    assert found[1] > 0.09  # small effects are seen


def test_short_names_stay_apart() -> None:
    names = ("image_text_retrieval_a", "image_text_retrieval_b", "words")
    short = short_names(names, 12)
    assert len(set(short)) == 3
    assert max(map(len, short)) <= 12
    assert short[2] == "words"
    assert short_names(("a b", "a b"), 5) == ["a b", "a b"]


def test_cells_lie_by_row_and_column() -> None:
    matrix = ((1.0, 0.1), (0.2, 1.0))
    rows = rows_of(("a", "b"), a_layer(tasks=2, matrix=matrix))
    assert [(each.affected, each.stepping, each.value, each.own) for row in rows for each in row] == [
        ("a", "a", 1.0, True),
        ("a", "b", 0.1, False),
        ("b", "a", 0.2, False),
        ("b", "b", 1.0, True),
    ]


def test_numbers_can_be_read_on_every_colour() -> None:
    text = files("uniperceiver.report").joinpath("style.css").read_text(encoding="utf-8")
    for theme in re.findall(r":root \{(.*?)\}", text, re.DOTALL):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})", theme))
        for ground in ("helps", "hurts", "card"):
            assert contrast(colours["ink"], colours[ground]) >= 4.5
        for ground in ("sunk", "missing"):
            assert contrast(colours["soft"], colours[ground]) >= 4
        for one, other in combinations(("helps", "hurts", "missing", "card"), 2):
            assert distance(colours[one], colours[other]) > 40


def channels(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


def distance(one: str, other: str) -> float:
    return math.dist(channels(one), channels(other))


def contrast(one: str, other: str) -> float:
    """As WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in channels(colour))
        ]
        return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
