"""The experts' picture: a row for each group of tokens, a block for each layer, a mark for each expert."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.report.html import EVIL, assert_harmless
from tests.report.made_up import WEIGHTS, a_gate, some_experts
from uniperceiver.moe.statistics import GateFigures
from uniperceiver.report.figures import expert_panels, expert_weights
from uniperceiver.report.figures.gates import in_words, panel_title
from uniperceiver.report.figures.svg import inline
from uniperceiver.report.parts.token_groups import gates_of, token_groups


def marks(figures: Sequence[GateFigures], part: str = "ffn", experts: int = 4) -> list[tuple[float, float, float]]:
    """Left edge, top and opacity of each mark, row by row."""
    (axes,) = expert_weights(some_experts(figures, experts=experts), part).axes
    shown: list[tuple[float, float, float]] = []
    for collection in axes.collections[1::3]:  # grounds, marks, what can be pointed at
        paths = [path.vertices for path in collection.get_paths()]
        alphas = np.atleast_2d(collection.get_facecolors())[:, 3]
        shown += [(corners[0][0], corners[0][1], alpha) for corners, alpha in zip(paths, alphas, strict=True)]
    return shown


def test_tasks_that_are_treated_alike_are_one_group() -> None:
    groups = token_groups(some_experts().figures)
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
    sides = [("candidate", "text"), ("input", "sound"), ("input", "text"), ("candidate", "visual"), ("input", "visual")]
    groups = token_groups([a_gate(side=side, kind=kind) for side, kind in sides])
    assert [group.tokens for group in groups] == ["visual", "text", "sound", "visual candidates", "text candidates"]


def test_a_panel_for_each_part_with_its_layers() -> None:
    experts = some_experts()
    assert expert_panels(experts) == [("attention", 0), ("ffn", 0)]
    (axes,) = expert_weights(experts, "ffn").axes
    texts = [text.get_text() for text in axes.texts]
    assert [text for text in texts if text.startswith("layer")] == ["layer 0", "layer 2"]
    assert [label.get_text() for label in axes.get_yticklabels()] == (
        ["birds, tales · visual", "words · visual", "words · text candidates"]
    )


def test_two_gates_of_a_part_are_two_panels() -> None:
    experts = some_experts([a_gate(), a_gate(gate=1), a_gate(part="attention")])
    assert [panel_title(experts, part, gate) for part, gate in expert_panels(experts)] == (
        ["Attention", "FFN, gate of linear 1", "FFN, gate of linear 2"]
    )


def test_a_mark_stands_where_its_layer_expert_and_group_are() -> None:
    first, second, far, *other = marks(
        [a_gate("birds", 0), a_gate("words", 0), a_gate("birds", 1, weight=[0, 0, 0, 1.0])]
    )
    assert first[1] == second[1] == far[1]  # a row
    assert first[0] < second[0] < far[0]
    assert len(other) == 2
    assert all(mark[1] > first[1] for mark in other)
    assert far[2] == 1.0 > first[2] > second[2] > 0
    width = second[0] - first[0]
    assert far[0] - first[0] > 7 * width  # the other layer's last expert
    assert other[1][0] - other[0][0] == pytest.approx(2 * width, abs=0.2)  # experts 1 and 3


def test_figures_are_said_where_one_points() -> None:
    figures = a_gate(weight=[0.7, 0.3, 0, 0], drop_rate=0.125, unserved=0.5)
    (group,) = token_groups([figures])
    text = (
        "birds · visual · layer 0 · expert 0: weight 0.70, 50\u202f% of the assignments, expert 1: weight 0.30, "
        "50\u202f% of the assignments · entropy 1.00 nats · 12.5\u202f% of the assignments dropped · 50.0\u202f% of "
        "the tokens without an expert"
    )
    assert in_words(group, figures) == text
    assert f"<title>{text}</title>" in inline(expert_weights(some_experts([figures]), "ffn"), "")


@pytest.mark.parametrize(("layers", "count"), [(1, 1), (200, 1), (1, 2), (24, 8), (3, 64), (1, 1000)])
def test_any_number_of_layers_and_experts_can_be_drawn(layers: int, count: int) -> None:
    figures = [a_gate(layer=layer, weight=[1 / count] * count) for layer in range(layers)]
    assert len(marks(figures, experts=count)) == layers * count
    (axes,) = expert_weights(some_experts(figures, experts=count), "ffn").axes
    numbers = sorted(text.get_position()[0] for text in axes.texts if text.get_position()[1] == -6)
    assert all(right - left > 5 for left, right in pairwise(numbers))
    assert max(numbers) < axes.get_xlim()[1]


def test_weights_that_are_no_numbers_and_hostile_names_leave_a_figure() -> None:
    nan = float("nan")
    broken = some_experts([a_gate(EVIL, weight=[nan] * 4, entropy=nan, load=[nan] * 4)])
    assert_harmless(inline(expert_weights(broken, "ffn"), EVIL))
    assert set(WEIGHTS) == {"birds", "words", "tales"}
