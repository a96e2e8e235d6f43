"""Captions with experts: no word sees later ones, the cache computes what training computed, merged experts are fresh.

Shape suffixes: B sequences, N tokens, S words, R rows (beams of all sequences), V vocabulary, D width.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.parts import changed, flat, sequences_of
from tests.moe_cases import BY_ROW, IN_CAPTIONS, inputs_of, moe_model, some
from tests.tiny import tiny_task
from uniperceiver.errors import UserError
from uniperceiver.model.model import Generalist
from uniperceiver.records import Sequences
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.candidates import Candidates, represent_candidates, vocabulary_sequences
from uniperceiver.tasks.decode import Generated, generate, prefix_with_query
from uniperceiver.tasks.likelihood import log_likelihood, logits, unit

V, END, ANSWER, WORDS = 7, 5, 6, 6
TASK = tiny_task("image_captioning")
SETTINGS: dict[str, dict[str, Any]] = {
    "both": {},
    "gates": {"gates": 2, "k": 1},
    "whole ffn": {"where": "ffn", "level": "ffn"},
    "one layer": {"layers": (1,), "experts": 3, "k": 3},
}
every_routing = pytest.mark.parametrize("condition", IN_CAPTIONS)
every_setting = pytest.mark.parametrize("settings", SETTINGS)


def writer(condition: str, settings: str = "both", seed: int = 0, **more: Any) -> Generalist:
    """A model of seven words with experts."""
    arch = {"vocabulary": V, "end": END, "answer": ANSWER, "max_text": 8, "patch": 8}
    return moe_model(condition, seed, arch=arch, **{**SETTINGS[settings], **more})


def pictures(b: int) -> Sequences:
    pixels = torch.randn(b, 1, 3, 16, 16, generator=torch_stream(1, b))
    return sequences_of(facts=TASK.facts("input", 1), pixels_BFCHW=pixels)


def with_text(prefix: Sequences, ids_BS: Tensor) -> Sequences:
    """The sequences in the form that training uses: words, then a query for each."""
    place_BS = torch.arange(ids_BS.shape[1]).expand_as(ids_BS)
    none_BS = torch.zeros_like(ids_BS, dtype=torch.bool)
    return changed(
        prefix,
        ids_BN=torch.cat([ids_BS, torch.full_like(ids_BS, ANSWER)], dim=1),
        position_BN=torch.cat([place_BS, place_BS], dim=1),
        order_BN=torch.cat([place_BS, place_BS], dim=1) + 1,
        query_BN=torch.cat([none_BS, ~none_BS], dim=1),
    )


def word_logits(model: Generalist, x_RD: Tensor) -> Tensor:
    words = vocabulary_sequences(torch.arange(V), TASK.facts("candidate", 1), END)
    c_VD = represent_candidates(model, Candidates(sequences=words))
    return logits(unit(model.represent(x_RD)), c_VD, model.scale("caption"))


@torch.no_grad()
def parallel(model: Generalist, prefix: Sequences, ids_BS: Tensor) -> Tensor:
    """Logits of every word at every place, (B, S, V), in one pass."""
    x_BSD = model.encode(with_text(prefix, ids_BS)).x_BND[:, -ids_BS.shape[1] :]
    return word_logits(model, x_BSD.flatten(0, 1)).unflatten(0, x_BSD.shape[:2])


def texts(rows: int, words: int = WORDS) -> Tensor:
    return torch.randint(0, V - 2, (rows, words), generator=torch_stream(2, rows, words))


@every_setting
@every_routing
def test_a_word_moves_no_earlier_output(condition: str, settings: str) -> None:
    model, prefix, ids_BS = writer(condition, settings), pictures(2), texts(2)
    with torch.no_grad():
        before_BND = model.encode(with_text(prefix, ids_BS)).x_BND
        first = before_BND.shape[1] - 2 * WORDS
        for place in range(WORDS):
            changed_BS = ids_BS.clone()
            changed_BS[:, place] = (changed_BS[:, place] + 1) % (V - 2)
            moved_N = (model.encode(with_text(prefix, changed_BS)).x_BND - before_BND).abs().amax(dim=(0, 2))
            words_S, queries_S = moved_N[first : first + WORDS], moved_N[first + WORDS :]
            assert float(moved_N[:first].max()) <= 1e-6
            assert not bool((words_S[:place] > 1e-6).any())
            assert not bool((queries_S[: place + 1] > 1e-6).any())  # the query at its place asks for this very word
            assert bool((words_S[place:] > 1e-3).all())
            assert bool((queries_S[place + 1 :] > 1e-4).all())


@every_setting
@every_routing
def test_logits_with_a_cache_are_those_of_one_pass(condition: str, settings: str) -> None:
    """Three beams, which are exchanged before every word; each row's logits are those of its text."""
    model, prefix, beams = writer(condition, settings), pictures(2), 3
    word_RS, order = texts(2 * beams), torch_stream(3)
    with torch.no_grad():
        cache, x_BD = model.begin(prefix_with_query(prefix, ANSWER), WORDS)
        first_BV = word_logits(model, x_BD)
        cache.repeat(beams)
        written_RS, steps = word_RS[:, :0], []
        for place in range(1, WORDS):
            if place > 1:
                parent_R = torch.randint(0, beams, (2 * beams,), generator=order) + torch.tensor([0, 0, 0, 3, 3, 3])
                cache.reorder(parent_R)
                written_RS = written_RS[parent_R]
            written_RS = torch.cat([written_RS, word_RS[:, place : place + 1]], dim=1)
            steps.append((written_RS, word_logits(model, model.extend(cache, word_RS[:, place], place))))
    torch.testing.assert_close(first_BV, parallel(model, prefix, word_RS[::beams])[:, 0], atol=1e-5, rtol=1e-5)
    repeated = some(prefix, [0, 0, 0, 1, 1, 1])
    for written_RS, found_RV in steps:
        asked_RS = torch.cat([written_RS, torch.zeros_like(written_RS[:, :1])], dim=1)
        expected_RV = parallel(model, repeated, asked_RS)[:, -1]
        torch.testing.assert_close(found_RV, expected_RV, atol=1e-5, rtol=1e-5)
    assert float((steps[-1][1][0] - steps[-1][1][1]).abs().max()) > 1e-3


def write(model: Generalist, prefix: Sequences, beams: int = 3) -> Generated:
    model.temperatures["caption"].data.fill_(1.7)
    return generate(
        model,
        prefix_with_query(prefix, ANSWER),
        lambda x_RD: word_logits(model, x_RD),
        end=END,
        beams=beams,
        words=WORDS,
    )


@pytest.mark.parametrize("beams", [1, 3])
@every_routing
def test_a_text_is_as_likely_as_its_words_in_one_pass(condition: str, beams: int) -> None:
    model, prefix = writer(condition, seed=11), pictures(3)
    found = write(model, prefix, beams)
    step_BSV = log_likelihood(parallel(model, prefix, found.ids_BS))
    word_BS = step_BSV.gather(2, found.ids_BS[:, :, None])[:, :, 0]
    ended_BS = (found.ids_BS == END).cumsum(dim=1) - (found.ids_BS == END).long() > 0
    torch.testing.assert_close(found.log_likelihood_BS, word_BS.masked_fill(ended_BS, 0.0), atol=1e-5, rtol=1e-5)


@every_routing
def test_pictures_beside_it_change_no_text(condition: str) -> None:
    model, prefix = writer(condition, seed=11), pictures(3)
    together = write(model, prefix)
    for row in range(3):
        alone = write(model, some(prefix, [row]))
        length = alone.ids_BS.shape[1]
        assert torch.equal(together.ids_BS[row, :length], alone.ids_BS[0])
        likelihood_S = together.log_likelihood_BS[row, :length]
        torch.testing.assert_close(likelihood_S, alone.log_likelihood_BS[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("condition", "settings"),
    [("expert_choice", {}), ("token", {"training_capacity": 1.0}), ("context", {"evaluation_capacity": 2.0})],
)
def test_routing_that_would_see_later_words_writes_nothing(condition: str, settings: dict[str, float]) -> None:
    model = writer(condition, **settings)
    for ask in (lambda: write(model, pictures(1)), lambda: parallel(model, pictures(1), texts(1))):
        with pytest.raises(UserError, match=r"cannot be used for captions; use moe\.condition=token or attribute"):
            ask()


@pytest.mark.parametrize(("condition", "rows"), [("modality", 2), ("task", 1), ("attribute", 2), ("task_specific", 0)])
def test_experts_are_merged_once_for_all_words(condition: str, rows: int) -> None:
    model = writer(condition)
    with torch.no_grad():
        cache, _ = model.begin(prefix_with_query(pictures(2), ANSWER), WORDS)
        before = dict(cache.merged)
        cache.repeat(2)
        for place in (1, 2):
            model.extend(cache, texts(4)[:, place], place)
            cache.reorder(torch.tensor([1, 0, 2, 2]))
    assert len(before) == rows * 2 * 4  # rows, layers, linears
    assert cache.merged.keys() == before.keys()
    assert all(cache.merged[key][0] is weight for key, (weight, _) in before.items())


@every_routing
def test_after_a_change_of_the_weights_texts_are_those_of_the_new_ones(condition: str) -> None:
    model, other, prefix = writer(condition, seed=11), writer(condition, seed=12), pictures(3)
    before = write(model, prefix)
    model.load_state_dict(other.state_dict())
    found, expected = write(model, prefix), write(other, prefix)
    assert torch.equal(found.ids_BS, expected.ids_BS)
    torch.testing.assert_close(found.log_likelihood_BS, expected.log_likelihood_BS, atol=1e-6, rtol=0)
    assert not torch.equal(found.log_likelihood_BS, before.log_likelihood_BS[:, : found.ids_BS.shape[1]])


@pytest.mark.parametrize("condition", BY_ROW)
def test_merged_experts_are_kept_for_a_generation_without_gradients_only(condition: str) -> None:
    model = writer(condition)
    cache, x_BD = model.begin(prefix_with_query(pictures(2), ANSWER), WORDS)
    assert cache.merged == {}
    x_BD.sum().backward()
    experts = model.encoder.blocks[0].ffn.linear1.experts  # type: ignore[union-attr]
    assert any(each.weight.grad is not None for each in experts)  # type: ignore[union-attr]


def test_the_context_of_a_prefix_goes_with_its_beams() -> None:
    model, prefix = writer("context"), pictures(2)
    with torch.no_grad():
        cache, _ = model.begin(prefix_with_query(prefix, ANSWER), WORDS)
        before = dict(cache.pooled)
        cache.repeat(3)
        model.extend(cache, texts(6)[:, 0], 1)
    assert before.keys() == {(layer, part) for layer in (0, 1) for part in ("attention", "ffn")}
    for where, context_BD in before.items():
        assert torch.equal(cache.pooled[where], context_BD.repeat_interleave(3, dim=0))


@every_routing
def test_a_padded_caption_has_the_outputs_of_a_shorter_one(condition: str) -> None:
    model, inputs = moe_model(condition), inputs_of("image_captioning")
    assert flat(inputs).valid_BN is not None
    kept_N = flat(inputs).valid_BN[0]
    alone = changed(
        some(inputs, [0]),
        valid_BN=None,
        **{name: getattr(flat(inputs), name)[:1, kept_N] for name in ("ids_BN", "position_BN", "order_BN", "query_BN")},
    )
    with torch.no_grad():
        long_ND, short_ND = (model.encode(each).x_BND[0] for each in (inputs, alone))
    prefix = len(long_ND) - len(kept_N)
    expected_ND = torch.cat([long_ND[:prefix], long_ND[prefix:][kept_N]])
    torch.testing.assert_close(short_ND, expected_ND, atol=1e-5, rtol=1e-5)
