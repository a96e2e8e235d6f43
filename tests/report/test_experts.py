"""The experts' picture: a row for each group of tokens, a block for each layer, a mark for each expert."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from tests.report.made_up import a_report
from tests.report.test_run_report import EVIL, Page
from uniperceiver.evaluation.experts import Experts
from uniperceiver.moe.statistics import GateFigures
from uniperceiver.report.experts import experts_section
from uniperceiver.report.experts_groups import gates_of, token_groups
from uniperceiver.report.run_report import render

WEIGHTS = {"birds": [0.7, 0.3, 0.0, 0.0], "words": [0.0, 0.2, 0.0, 0.8], "tales": [0.7, 0.3, 0.0, 0.0]}


def a_gate(task: str = "birds", layer: int = 0, part: str = "ffn", **changes: Any) -> GateFigures:
    weight = changes.pop("weight", WEIGHTS.get(task, [0.25] * 4))
    values: dict[str, Any] = {"side": "input", "kind": "visual", "gate": 0, "tokens": len(task), "entropy": 1.0}
    values |= {"load": [0.5 * bool(each) for each in weight], "drop_rate": 0.0, "unserved": 0.0, "top1": 0.6}
    return GateFigures(task=task, layer=layer, part=part, weight=weight, **{**values, **changes})


def experts(figures: Sequence[GateFigures] | None = None, **changes: Any) -> Experts:
    """Two layers, attention and FFN, of three tasks; two of them are treated alike."""
    if figures is None:
        figures = [a_gate(task, layer, part) for task in WEIGHTS for layer in (0, 2) for part in ("attention", "ffn")]
        figures += [a_gate("words", side="candidate", kind="text", weight=[0.5, 0, 0.5, 0])]
    return Experts(**{"condition": "attribute", "experts": 4, "k": 2, "figures": figures, **changes})


def section(found: Experts) -> str:
    """The section alone."""
    html = experts_section(a_report(experts=found))
    assert html is not None
    return html.text


def marks(text: str) -> list[tuple[float, float, float]]:
    """x, y and opacity of each mark."""
    found = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="[\d.]+" height="\d+" opacity="([\d.]+)">', text)
    return [(float(x), float(y), float(opacity)) for x, y, opacity in found]


def test_tasks_that_are_treated_alike_are_one_group() -> None:
    groups = token_groups(experts().figures)
    assert [(group.tasks, group.tokens) for group in groups] == [
        (("birds", "tales"), "visual"),
        (("words",), "visual"),
        (("words",), "text candidates"),
    ]
    assert gates_of(groups) == [("attention", 0, 0), ("attention", 0, 2), ("ffn", 0, 0), ("ffn", 0, 2)]


@pytest.mark.parametrize("change", [{"weight": [0.7, 0.2, 0.1, 0.0]}, {"entropy": 0.9}, {"kind": "text"}])
def test_one_gate_that_tells_them_apart_is_enough(change: dict[str, Any]) -> None:
    figures = [a_gate("birds", 0), a_gate("birds", 1), a_gate("tales", 0), a_gate("tales", 1, **change)]
    assert len(token_groups(figures)) == 3 - ("kind" not in change)


def test_inputs_stand_before_candidates_and_pictures_before_texts() -> None:
    sides = [("candidate", "text"), ("input", "text"), ("candidate", "visual"), ("input", "visual")]
    groups = token_groups([a_gate(side=side, kind=kind) for side, kind in sides])
    assert [group.tokens for group in groups] == ["visual", "text", "visual candidates", "text candidates"]


def test_a_panel_for_each_part_with_its_layers() -> None:
    page = Page(render(a_report(experts=experts())))
    assert {"Attention", "FFN", "layer 0", "layer 2", "birds, tales · visual", "words · text candidates"} <= set(
        page.words
    )
    assert "layer 1" not in page.words
    assert "Experts" in page.words
    assert "Routing by attribute, 2 of 4 experts per token" in page.text


def test_a_mark_stands_where_its_layer_expert_and_group_are() -> None:
    text = section(experts([a_gate("birds", 0), a_gate("words", 0), a_gate("birds", 1, weight=[0, 0, 0, 1.0])]))
    found = marks(text)
    assert len(found) == 2 + 2 + 1
    first, second, far, *other = found
    assert first[1] == second[1] == far[1]  # one row
    assert first[0] < second[0] < far[0]
    assert all(each[1] > first[1] for each in other)
    assert far[2] == 1.0 > first[2] > second[2] > 0
    width = second[0] - first[0]
    assert far[0] - first[0] > 7 * width  # the other layer's last expert
    assert other[1][0] - other[0][0] == pytest.approx(2 * width, abs=0.2)  # experts 1 and 3
    assert text.count('class="ground"') == 3  # of words, layer 1 says nothing


def test_figures_are_shown_where_one_points() -> None:
    text = section(experts([a_gate(weight=[0.7, 0.3, 0, 0], drop_rate=0.125, unserved=0.5)]))
    (title,) = re.findall(r"<g><title>([^<]*)</title>", text)
    assert title == (
        "birds · visual · layer 0 · expert 0: weight 0.70, 50\u202f% of the assignments, expert 1: weight 0.30, "
        "50\u202f% of the assignments · entropy 1.00 nats · 12.5\u202f% of the assignments dropped · 50.0\u202f% of "
        "the tokens without an expert"
    )


def test_two_gates_of_a_part_are_two_panels() -> None:
    page = Page(render(a_report(experts=experts([a_gate(), a_gate(gate=1), a_gate(part="attention")]))))
    assert {"FFN, gate of linear 1", "FFN, gate of linear 2", "Attention"} <= set(page.words)


def test_a_dense_model_has_no_section() -> None:
    assert experts_section(a_report()) is None
    assert "Experts" not in Page(render(a_report())).words


def test_own_copies_are_a_sentence() -> None:
    text = section(experts([], condition="task_specific"))
    assert "each task has its own copy" in text
    assert "<svg" not in text


@pytest.mark.parametrize(("layers", "count"), [(1, 1), (200, 1), (1, 2), (24, 8), (3, 64), (1, 1000)])
def test_any_number_of_layers_and_experts_can_be_drawn(layers: int, count: int) -> None:
    weight = [1 / count] * count
    text = section(experts([a_gate(layer=layer, weight=weight) for layer in range(layers)], experts=count))
    found = marks(text)
    assert len(found) == layers * count
    (width,) = re.findall(r'viewBox="0 0 ([\d.]+) ', text)
    assert max(x for x, _, _ in found) < float(width)
    numbers = re.findall(r'class="expert" x="([\d.]+)"', text)
    places = sorted(map(float, numbers))
    assert all(right - left > 5 for left, right in pairwise(places))


def test_names_never_become_tags() -> None:
    text = render(a_report(experts=experts([a_gate(EVIL, weight=[1.0, 0, 0, 0])], condition=EVIL)))
    page = Page(text)
    assert not {"script", "x"} & set(page.tags)
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_weights_that_are_no_numbers_leave_a_page() -> None:
    nan = float("nan")
    page = Page(render(a_report(experts=experts([a_gate(weight=[nan] * 4, entropy=nan, load=[nan] * 4)]))))
    assert page.tags.count("svg") > 1


def test_a_large_model_is_a_small_section() -> None:
    tasks = [f"task {index}" for index in range(12)]
    weight = [(index + 1) / 36 for index in range(8)]
    figures = [
        a_gate(task, layer, part, weight=weight, side=side, entropy=float(len(tasks) + index))
        for index, task in enumerate(tasks)
        for layer in range(12)
        for part in ("attention", "ffn")
        for side in ("input", "candidate")
    ]
    assert len(section(experts(figures, experts=8)).encode()) < 1_000_000


def test_warnings_are_among_the_remarks() -> None:
    log = [{"event": "warning", "step": 40, "text": "step 40: routing has collapsed at layer 0 ffn"}]
    page = Page(render(a_report(log=log)))
    assert {"Warnings", "step 40: routing has collapsed at layer 0 ffn"} <= set(page.words)
