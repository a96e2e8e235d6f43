"""Statistics of decisions: counted by hand, added up over batches, and deaf to padding."""

import json
import math
from dataclasses import asdict, fields, replace

import pytest
import torch

from tests.moe_cases import BY_VALUES, KINDS, ROUTINGS, inputs_of, moe_model, padded, some
from uniperceiver.moe.statistics import Group, Statistics, gate_figures, statistics
from uniperceiver.records import Decision, Facts, Segment
from uniperceiver.streams import torch_stream

FACTS = Facts(side="input", inputs=("visual", "text"), targets=("text",))
VISUAL = Segment(start=0, stop=3, kind="visual", causal=False, facts=FACTS)
TEXT = Segment(start=3, stop=5, kind="text", causal=False, facts=FACTS)
# Expert choice is refused where words are written.
PAIRS = {(condition, kind) for condition in BY_VALUES for kind in KINDS} - {("expert_choice", "image_captioning")}
SURE, UNSURE, NOTHING = [1.0, 0.0, 0.0], [0.5, 0.25, 0.25], [math.nan] * 3


def by_token() -> Decision:
    """Two visual tokens, three of text, one of which found no room at all, and padding that is not a number."""
    probability_TE = torch.tensor([SURE, UNSURE, UNSURE, NOTHING, SURE, UNSURE])
    wanted = [[1, 1, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1], [1, 1, 0]]
    chosen = [[1, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0]]
    weight = [[0.9, 0.1, 0], [0.5, 0, 0.5], [0.7, 0, 0], [0, 0, 0], [0.8, 0, 0.2], [0, 0, 0]]
    return Decision(
        layer=3,
        part="ffn",
        segments=(VISUAL, TEXT),
        logit_TE=probability_TE.log(),
        probability_TE=probability_TE,
        wanted_TE=torch.tensor(wanted).bool(),
        chosen_TE=torch.tensor(chosen).bool(),
        weight_TE=torch.tensor(weight),
        segment_T=torch.tensor([0, 1, 1, -1, 0, 1]),
    )


def by_row() -> Decision:
    """Two rows for three segments, of which one has no tokens."""
    probability_RE = torch.tensor([SURE, UNSURE])
    chosen_RE = torch.tensor([[1, 1, 0], [1, 0, 1]]).bool()
    empty = replace(TEXT, start=5, stop=6, facts=replace(FACTS, side="candidate"))
    return Decision(
        layer=0,
        part="attention",
        gate=1,
        segments=(VISUAL, TEXT, empty),
        logit_TE=probability_RE.log(),
        probability_TE=probability_RE,
        wanted_TE=chosen_RE,
        chosen_TE=chosen_RE,
        weight_TE=torch.tensor([[0.9, 0.1, 0], [0.6, 0, 0.4]]),
        group_S=(1, 0, 0),
        tokens_S=torch.tensor([7.0, 5.0, 0.0]),
    )


def same(one: Statistics, other: Statistics) -> bool:
    """Whether all sums are equal, up to the order of additions."""
    pairs = ((getattr(one, each.name), getattr(other, each.name)) for each in fields(Statistics))
    return all(torch.allclose(torch.as_tensor(a).double(), torch.as_tensor(b).double(), rtol=1e-5) for a, b in pairs)


def test_tokens_are_counted_by_segment() -> None:
    found = statistics([by_token()])
    visual, text = found
    assert (visual.kind, text.kind) == ("visual", "text")
    assert found[visual].tokens == 2
    assert found[visual].load == [0.5, 0.25, 0.25]
    assert found[visual].mean_weight == pytest.approx([0.85, 0.05, 0.1])
    assert (found[visual].mean_entropy, found[visual].mean_top1) == (0.0, 1.0)
    assert (found[visual].drop_rate, found[visual].unserved) == (0.0, 0.0)
    assert found[text].tokens == 3
    assert found[text].load == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    assert found[text].mean_weight == pytest.approx([1.2 / 3, 0, 0.5 / 3])
    assert found[text].mean_entropy == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4))
    assert found[text].mean_top1 == 0.5
    assert found[text].drop_rate == pytest.approx(3 / 6)
    assert found[text].unserved == pytest.approx(1 / 3)


def test_rows_count_as_often_as_they_have_tokens() -> None:
    found = statistics([by_row()])
    visual = Group(layer=0, part="attention", gate=1, side="input", kind="visual")
    text = replace(visual, kind="text")
    assert list(found) == [visual, text]  # the candidates have no tokens
    assert (found[visual].tokens, found[text].tokens) == (7, 5)
    assert found[visual].load == [0.5, 0.0, 0.5]
    assert found[text].load == [0.5, 0.5, 0.0]
    assert found[visual].mean_weight == pytest.approx([0.6, 0, 0.4])
    assert (found[visual].mean_top1, found[text].mean_top1) == (0.5, 1.0)
    assert found[text].mean_entropy == 0.0


def test_segments_of_one_kind_are_one_group() -> None:
    decision = by_token()
    alike = replace(decision, segments=(VISUAL, replace(TEXT, kind="visual")))
    (one,) = statistics([alike]).values()
    visual, text = statistics([decision]).values()
    assert same(one, visual + text)


def test_decisions_of_the_same_gate_add_up() -> None:
    one, other = by_token(), replace(by_token(), segment_T=torch.tensor([0, 0, 1, -1, 1, 1]))
    both = statistics([one, other])
    for group, found in statistics([one]).items():
        assert same(both[group], found + statistics([other])[group])
    assert len(statistics([one, replace(other, layer=4), replace(other, gate=1)])) == 6


@pytest.mark.parametrize(("condition", "kind"), sorted(PAIRS))
def test_a_model_s_tokens_are_counted_one_by_one(condition: str, kind: str) -> None:
    encoded = moe_model(condition, gates=2).encode(inputs_of(kind))
    found = statistics(encoded.decisions)
    assert len({(each.layer, each.part, each.gate) for each in found}) == 8
    for decision in encoded.decisions:
        assert decision.segment_T is not None
        for index, segment in enumerate(decision.segments):
            mine = [token for token, of in enumerate(decision.segment_T.tolist()) if of == index]
            group = Group(layer=decision.layer, part=decision.part, gate=decision.gate, side="input", kind=segment.kind)
            one = found[group]
            wanted = [sum(bool(decision.wanted_TE[token, expert]) for token in mine) for expert in range(4)]
            entropy = sum(-p * math.log(p) for token in mine for p in decision.probability_TE[token].tolist() if p)
            assert one.tokens == len(mine) > 0
            assert one.wanted_E.tolist() == wanted
            assert one.load == pytest.approx([count / sum(wanted) for count in wanted])
            assert one.mean_entropy == pytest.approx(entropy / len(mine), rel=1e-4)
            assert one.mean_top1 == pytest.approx(
                sum(max(decision.probability_TE[token].tolist()) for token in mine) / len(mine), rel=1e-5
            )


@pytest.mark.parametrize("condition", [each for each in ROUTINGS if each not in ("task_specific", "expert_choice")])
def test_padding_changes_nothing(condition: str) -> None:
    model, inputs = moe_model(condition), inputs_of("image_captioning")
    short, long = (statistics(model.encode(each).decisions) for each in (inputs, padded(inputs, 9)))
    assert short.keys() == long.keys()
    for group in short:
        assert same(short[group], long[group]), group
    parts = [statistics(model.encode(some(inputs, rows)).decisions) for rows in ([0], [1, 2])]
    for group in short:
        assert same(short[group], parts[0][group] + parts[1][group]), group


def test_capacity_is_seen_as_dropped() -> None:
    model = moe_model("token", training_capacity=0.5, evaluation_capacity=2.0)
    inputs = inputs_of("masked_language_modelling")
    for one in statistics(model.encode(inputs, torch_stream(0, "noise")).decisions).values():
        assert 0.2 < one.drop_rate < 0.8
        assert sum(one.load) == pytest.approx(1.0)


def test_each_task_s_own_copy_decides_nothing() -> None:
    assert statistics(moe_model("task_specific").encode(inputs_of("vqa")).decisions) == {}


def test_figures_are_plain_and_in_the_order_of_the_log() -> None:
    group, one = next(iter(statistics([by_token()]).items()))
    figures = asdict(gate_figures("vqa", group, one))
    expected = {
        "task": "vqa",
        "layer": 3,
        "part": "ffn",
        "gate": 0,
        "side": "input",
        "kind": "visual",
        "tokens": 2,
        "load": [0.5, 0.25, 0.25],
        "weight": [0.85, 0.05, 0.1],
        "drop_rate": 0.0,
        "unserved": 0.0,
        "entropy": 0.0,
        "top1": 1.0,
    }
    assert json.dumps(figures) == json.dumps(expected)
