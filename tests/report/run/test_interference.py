"""The section of interference: the newest measurement, what is folded, and what the legend says."""

import pytest

from tests.report.html import EVIL, Page, assert_harmless
from tests.report.made_up import TASKS, a_layer, a_measurement, a_report, a_table
from uniperceiver.interference.records import Interference
from uniperceiver.report.run.interference import InterferenceSection, interference_section, kinds_of
from uniperceiver.report.run.page import render_run

HOW = "row: the task that is affected; column: the task that takes the step; positive helps, negative hurts"


def section(*measured: Interference, tasks: tuple[str, ...] = TASKS) -> InterferenceSection:
    result = interference_section(a_report(tasks, interference=measured))
    assert result is not None
    return result


def page(*measured: Interference, tasks: tuple[str, ...] = TASKS) -> Page:
    return Page(render_run(a_report(tasks, lines=0, examples=[], interference=measured)))


def test_nothing_measured_is_no_section() -> None:
    assert interference_section(a_report()) is None
    assert interference_section(a_report(interference=[a_measurement(layers=())])) is None
    assert "Interference" not in Page(render_run(a_report())).words


def test_the_section_says_how_to_read_it() -> None:
    shown = page(a_measurement(step=1200))
    assert HOW in shown.text
    assert "after 1,200 training steps on 100 batches per task, for the parameters *.ffn.linear2.weight" in shown.text
    assert ("href", "#interference") in shown.attributes
    assert ("id", "interference") in shown.attributes


def test_the_legend_says_what_there_is() -> None:
    without = a_measurement(layers=(a_layer(low=a_table(None, None), high=a_table(None, None)),))
    assert not section(without).any_missing
    assert not section(without).any_interval
    assert "not measurable" not in page(without).words
    holes = a_measurement(layers=(a_layer(matrix=a_table(None)),))
    assert section(holes).any_missing
    assert {"not measurable", "bold"} <= set(page(holes).words)


def test_the_newest_measurement_is_shown_in_any_order() -> None:
    old, new = (a_measurement(step=step, layers=(a_layer(matrix=a_table(step / 1000)),)) for step in (200, 400))
    for shown in (section(old, new), section(new, old)):
        assert "after 400 training steps" in shown.explained
        (panel,) = shown.kinds[0].shown
        assert panel.figure.count(">+0.40<") == 6


def test_many_layers_are_folded_but_for_first_middle_and_last() -> None:
    (kind,) = section(a_measurement(layers=tuple(a_layer(depth) for depth in range(24)))).kinds
    assert [panel.name for panel in kind.shown] == ["layer 0", "layer 12", "layer 23"]
    assert len(kind.hidden) == 21
    (few,) = section(a_measurement(layers=tuple(a_layer(depth) for depth in range(4)))).kinds
    assert (len(few.shown), len(few.hidden)) == (4, 0)
    assert "21 more layers" in page(a_measurement(layers=tuple(a_layer(depth) for depth in range(24)))).words


@pytest.mark.slow
def test_24_layers_and_8_tasks_are_a_page() -> None:
    tasks = tuple(f"a task with a long name, number {place}" for place in range(8))
    layers = tuple(a_layer(depth, tasks=8) for depth in range(24))
    measured = [a_measurement(tasks, step=step, layers=layers) for step in (200, 900)]
    text = render_run(a_report(tasks, lines=0, examples=[], interference=measured))
    assert len(text.encode()) < 1_300_000
    shown = Page(text)
    assert shown.tags.count("svg") == 8 + 24 + 8 + 16  # cards, heat maps, depth, two layers over training
    steps = section(*(a_measurement(tasks, step=step) for step in (200, 900)), tasks=tasks).steps
    assert [dashed for _, dashed, _ in steps] == [False] * 4 + [True] * 4


def test_names_never_become_tags() -> None:
    layers = (a_layer(0, tasks=2, kind=EVIL), a_layer(1, tasks=2, kind=EVIL))
    measured = [a_measurement((EVIL, "b"), step=step, layers=layers) for step in (1, 2)]
    assert_harmless(render_run(a_report(("b",), interference=measured)))


def test_one_task_alone_leaves_a_page() -> None:
    measured = a_measurement(("birds",), layers=(a_layer(0, tasks=1), a_layer(1, tasks=1)))
    (kind,) = section(measured).kinds
    assert not kind.over_depth
    assert len(kind.shown) == 2


def test_curves_over_depth_and_training_where_there_is_something_to_compare() -> None:
    (single,) = section(a_measurement(layers=(a_layer(3),))).kinds
    assert not single.over_depth
    measured = [a_measurement(step=step, layers=tuple(a_layer(depth) for depth in range(3))) for step in (600, 200)]
    (kind,) = section(*measured).kinds
    assert [panel.task for panel in kind.over_depth] == list(TASKS)
    assert [name for name, _ in kind.over_training] == ["Layer 0", "Layer 2"]
    assert {"Over depth", "Over training"} <= set(page(*measured).words)


def test_measurements_of_other_parameters_are_no_curve() -> None:
    measured = [
        a_measurement(step=step, layers=(a_layer(kind=kind),)) for step, kind in ((1, "a.weight"), (2, "b.weight"))
    ]
    assert not section(*measured).kinds[0].over_training


def test_a_layer_that_was_measured_once_only_is_no_curve() -> None:
    early = a_measurement(step=200, layers=(a_layer(0),))
    late = a_measurement(step=400, layers=(a_layer(0), a_layer(1)))
    assert [name for name, _ in section(early, late).kinds[0].over_training] == ["Layer 0"]


def test_each_kind_of_parameters_has_its_own_curves() -> None:
    layers = [a_layer(depth, kind=kind) for depth in (1, 0) for kind in ("ffn.linear2.weight", "attention.out.weight")]
    measured = a_measurement(layers=(*layers, a_layer(None, kind="head.weight")))
    assert {kind: [layer.layer for layer in found] for kind, found in kinds_of(measured).items()} == {
        "encoder.blocks.*.ffn.linear2.weight": [0, 1],
        "encoder.blocks.*.attention.out.weight": [0, 1],
        "": [None],
    }
    shown = page(measured)
    assert shown.words.count("Over depth") == 2
    assert {"encoder.blocks.*.attention.out.weight", "Other parameters", "head.weight"} <= set(shown.words)
