"""Decisions on a split: of all its inputs and candidates, once each."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from tests.moe_cases import moe_model
from tests.tiny import VIEW, tiny_codec, tiny_source, tiny_task
from uniperceiver.evaluation.experts import Experts, _candidates, decisions, idle_gates
from uniperceiver.evaluation.split import Settings, Split, drawn_samples
from uniperceiver.moe.statistics import GateFigures, statistics

ITEMS = 7
SETTINGS = Settings(codec=tiny_codec(), device=torch.device("cpu"), batch=3)


def split_of(name: str) -> Split:
    task = tiny_task(name)
    source = tiny_source(task, ITEMS)
    return Split(task=task, index=1, name="val", source=source, preprocess=VIEW, training_texts=source.texts)


def tokens_of(name: str, settings: Settings = SETTINGS, condition: str = "attribute") -> Counter[tuple[str, str]]:
    """Tokens of each side and modality that the first gate saw."""
    counts: Counter[tuple[str, str]] = Counter()
    for several in decisions(moe_model(condition), split_of(name), settings):
        for group, one in statistics(several).items():
            if (group.layer, group.part) == (0, "attention"):
                counts[group.side, group.kind] += int(one.tokens)
    return counts


def label_tokens(name: str) -> int:
    """<SPE>, words and end of all label texts."""
    codec = tiny_codec()
    return sum(len(codec.encode(text)) + 2 for texts in tiny_task(name).labels for text in texts)


@pytest.mark.parametrize("condition", ["attribute", "task", "token"])
def test_labels_are_encoded_once(condition: str) -> None:
    counts = tokens_of("image_classification", condition=condition)
    assert counts == {("input", "visual"): ITEMS * 5, ("candidate", "text"): label_tokens("image_classification")}


def test_the_vocabulary_is_encoded_once_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniperceiver.evaluation.experts._CHUNK", 100)
    counts = tokens_of("masked_language_modelling")
    assert counts["candidate", "text"] == 3 * tiny_codec().size  # <SPE>, word, end
    assert counts["input", "text"] > 2 * ITEMS


def test_texts_of_the_batch_are_its_candidates() -> None:
    counts = tokens_of("image_text_retrieval")
    assert counts["input", "visual"] == ITEMS * 5
    codec, source = tiny_codec(), split_of("image_text_retrieval").source
    lengths = [min(len(codec.encode(source.read(index).captions[0])), VIEW.length - 1) for index in range(ITEMS)]
    assert counts["candidate", "text"] == sum(length + 2 for length in lengths)


def test_a_limit_holds_for_samples_and_texts() -> None:
    counts = tokens_of("image_captioning", replace(SETTINGS, limit=4))
    assert counts["input", "visual"] == 4 * 5
    assert counts["candidate", "text"] == 4 * 3


def test_the_batch_size_changes_nothing() -> None:
    assert tokens_of("image_captioning") == tokens_of("image_captioning", replace(SETTINGS, batch=1))


def test_nothing_is_random_and_nothing_has_a_gradient() -> None:
    model, split = moe_model("token"), split_of("masked_language_modelling")
    one, other = (list(decisions(model, split, SETTINGS)) for _ in range(2))
    for several, again in zip(one, other, strict=True):
        for left, right in zip(several, again, strict=True):
            assert torch.equal(left.logit_TE, right.logit_TE)
            assert not left.logit_TE.requires_grad


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    settings = replace(SETTINGS, on_batch=lambda done, total: told.append((done, total)))
    list(decisions(moe_model("attribute"), split_of("image_classification"), settings))
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_candidates_are_drawn_as_samples_are() -> None:
    (sequences,) = _candidates(split_of("masked_language_modelling"), replace(SETTINGS, limit=7))
    words = sequences.parts[0].values[:, 0].tolist()
    assert words == drawn_samples(tiny_codec().size, 7)
    assert words != list(range(7))


def a_gate(layer: int, weight: list[float], top1: float, **changes: object) -> GateFigures:
    values = {"task": "a", "side": "input", "kind": "text", "part": "ffn", "gate": 0, "tokens": 9} | changes
    return GateFigures(
        layer=layer, weight=weight, top1=top1, load=[0.5, 0.5, 0.0], drop_rate=0.0, unserved=0.0, entropy=0.5, **values
    )


def test_gates_that_tell_nothing_apart_and_experts_that_do_nothing_are_said() -> None:
    figures = [
        a_gate(0, [0.9, 0.1, 0.0], 0.8),
        a_gate(0, [0.2, 0.8, 0.0], 0.7, kind="visual"),  # tells them apart
        a_gate(1, [0.6, 0.4, 0.0], 0.5),
        a_gate(1, [0.7, 0.3, 0.0], 0.6, task="b"),  # the same for all
        a_gate(2, [1.0, 0.0, 0.0], 0.99, part="attention", gate=1),
        a_gate(2, [0.0, 1.0, 0.0], 0.97, part="attention", gate=1, task="b"),  # apart, but one expert each
    ]
    experts = Experts(condition="attribute", experts=3, k=2, figures=figures)
    alike, lone = idle_gates(experts)
    assert alike.startswith("1 of 3 gates (layer 1 ffn): all groups of tokens have the same likeliest expert")
    assert lone.startswith("1 of 3 gates (layer 2 attention gate 1): the likeliest expert has over 95% of the prob")
    assert idle_gates(replace(experts, k=1)) == [alike]
    assert idle_gates(replace(experts, figures=figures[:2])) == []
    assert idle_gates(replace(experts, figures=figures[:1])) == []  # one group: nothing to tell apart
