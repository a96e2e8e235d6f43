"""Generation computes exactly the function that was trained, and beam search finds what it should.

Shape suffixes: B sequences, N tokens, S words, V vocabulary, D width.
"""

from itertools import product

import pytest
import torch
from torch import Tensor

from benchmarks.parts import changed, flat, sequences_of
from tests.tiny import hearing, tiny_batch, tiny_codec, tiny_model, tiny_task
from uniperceiver.errors import UserError
from uniperceiver.model.model import Generalist
from uniperceiver.records import Sequences
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.candidates import Candidates, represent_candidates, vocabulary_sequences
from uniperceiver.tasks.decode import Generated, generate, prefix_with_query
from uniperceiver.tasks.likelihood import log_likelihood, logits, unit

V, END, ANSWER = 7, 5, 6
TASK = tiny_task("image_captioning")


def small(seed: int = 0) -> Generalist:
    """A model of seven words that prefers some to others, and now and then the end."""
    model = tiny_model(seed, vocabulary=V, end=END, answer=ANSWER, max_text=8, patch=8)
    model.temperatures["caption"].data.fill_(1.7)
    return model


def pictures(b: int, frames: int = 1) -> Sequences:
    pixels = torch.randn(b, frames, 3, 16, 16, generator=torch_stream(1, b, frames))
    return sequences_of(facts=TASK.facts("input"), pixels_BFCHW=pixels)


def scorer(model: Generalist) -> tuple[Tensor, Tensor]:
    words = vocabulary_sequences(torch.arange(V), TASK.facts("candidate"), END)
    return represent_candidates(model, Candidates(sequences=words)).detach(), model.scale("caption").detach()


def write(model: Generalist, prefix: Sequences, beams: int, words: int, penalty: float = 0.0) -> Generated:
    words_VD, scale = scorer(model)
    return generate(
        model,
        prefix_with_query(prefix, ANSWER),
        lambda x_ND: logits(unit(model.represent(x_ND)), words_VD, scale),
        end=END,
        beams=beams,
        words=words,
        length_penalty=penalty,
    )


@torch.no_grad()
def parallel(model: Generalist, prefix: Sequences, ids_BS: Tensor) -> Tensor:
    """Log-likelihood of every word at every place, (B, S, V), in the form that training uses."""
    place_BS = torch.arange(ids_BS.shape[1]).expand_as(ids_BS)
    none_BS = torch.zeros_like(ids_BS, dtype=torch.bool)
    inputs = changed(
        prefix,
        ids_BN=torch.cat([ids_BS, torch.full_like(ids_BS, ANSWER)], dim=1),
        position_BN=torch.cat([place_BS, place_BS], dim=1),
        order_BN=torch.cat([place_BS, place_BS], dim=1) + 1,
        query_BN=torch.cat([none_BS, ~none_BS], dim=1),
    )
    words_VD, scale = scorer(model)
    x_BSD = model.encode(inputs).x_BND[:, -ids_BS.shape[1] :]
    return log_likelihood(logits(unit(model.represent(x_BSD)), words_VD, scale))


def score(step_SV: Tensor, words: tuple[int, ...]) -> float:
    """Log-likelihood of a text up to its first end."""
    stop = words.index(END) + 1 if END in words else len(words)
    return sum(float(step_SV[place, word]) for place, word in enumerate(words[:stop]))


def penalised(value: float, words: tuple[int, ...], penalty: float) -> float:
    length = words.index(END) if END in words else len(words)
    return value / (length + 1) ** penalty


def beam_search_plainly(
    model: Generalist, picture: Sequences, beams: int, words: int, penalty: float
) -> tuple[int, ...]:
    """Beam search of one sequence over tuples of words; the whole text is encoded anew for every word."""
    kept: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for _ in range(words):
        found = []
        for value, text in kept:
            if END in text:
                found.append((value, (*text, END)))
                continue
            step_V = parallel(model, picture, torch.tensor([[*text, 0]]))[0, -1]
            found += [(value + float(step_V[word]), (*text, word)) for word in range(V)]
        kept = sorted(found, reverse=True)[:beams]
    return max(kept, key=lambda one: penalised(*one, penalty))[1]


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("beams", [1, 3])
def test_cached_logits_are_the_parallel_logits_of_training(frames: int, beams: int) -> None:
    model, prefix, steps = small(), pictures(2, frames), []
    words_VD, scale = scorer(model)
    ids_BS = torch.tensor([[3, 0, 0, 4, 1, 2], [2, 2, 1, 4, 0, 3]])
    repeated_RS = ids_BS.repeat_interleave(beams, dim=0)

    def forced(x_ND: Tensor) -> Tensor:
        """True logits are kept; those handed back force the given texts."""
        place = len(steps)
        steps.append(log_likelihood(logits(unit(model.represent(x_ND)), words_VD, scale)))
        word_N = (ids_BS if len(x_ND) == len(ids_BS) else repeated_RS)[:, place]
        return torch.nn.functional.one_hot(word_N, V) * 100.0

    generate(model, prefix_with_query(prefix, ANSWER), forced, end=END, beams=beams, words=6)
    expected_BSV = parallel(model, prefix, ids_BS)
    assert len(steps) == 6
    for place, step_NV in enumerate(steps):
        # The best beam of each sequence holds the forced text; the others differ from it in one word.
        best_BV = step_NV.view(2, -1, V)[:, 0]
        torch.testing.assert_close(best_BV, expected_BSV[:, place], atol=1e-5, rtol=0)


@torch.no_grad()
def test_words_about_a_sound_are_read_as_in_training() -> None:
    task = tiny_task("audio_captioning")
    model, inputs = tiny_model(**hearing(task)).eval(), tiny_batch(task).inputs
    text = inputs.text
    assert text is not None
    words = text.values.shape[1] // 2
    shortest = words if text.valid_BN is None else int(text.valid_BN[:, :words].sum(dim=1).min())
    queries_BND = model.encode(inputs).x_BND[:, -words:]
    cache, x_BD = model.begin(prefix_with_query(inputs, tiny_codec().answer), words)
    torch.testing.assert_close(x_BD, queries_BND[:, 0], atol=1e-5, rtol=0)
    for place in range(1, shortest):
        x_BD = model.extend(cache, text.values[:, place - 1], place)
        torch.testing.assert_close(x_BD, queries_BND[:, place], atol=1e-5, rtol=0)


def test_one_encoder_pass_for_each_new_word(monkeypatch: pytest.MonkeyPatch) -> None:
    model, lengths = small(), []
    forward = model.encoder.forward

    def counted(tokens: object, *args: object, **options: object) -> object:
        lengths.append(tokens.x_BND.shape[1])
        return forward(tokens, *args, **options)

    monkeypatch.setattr(model.encoder, "forward", counted)
    words_VD, scale = scorer(model)
    lengths.clear()
    without_end = torch.zeros(V).index_fill(0, torch.tensor([END]), -100.0)
    found = generate(
        model,
        prefix_with_query(pictures(2), ANSWER),
        lambda x_ND: logits(unit(model.represent(x_ND)), words_VD, scale) + without_end,
        end=END,
        beams=2,
        words=5,
    )
    assert found.ids_BS.shape == (2, 5)
    assert lengths == [1 + 4 + 1, 2, 2, 2, 2]  # <SPE>, patches, query; then a word and the next query


@pytest.mark.parametrize("seed", [0, 4, 6, 8, 11, 12])
def test_enough_beams_find_the_best_of_all_texts(seed: int) -> None:
    model, prefix = small(seed), pictures(2)
    found = write(model, prefix, beams=V, words=2)
    for b in range(2):
        picture = changed(prefix, pixels_BFCHW=flat(prefix).pixels_BFCHW[b : b + 1])
        scores = {}
        for text in product(range(V), repeat=2):
            if END not in text[:-1] or text == (END, END):
                scores[text] = score(parallel(model, picture, torch.tensor([text]))[0], text)
        best = max(scores, key=scores.__getitem__)
        written = tuple(found.ids_BS[b].tolist())
        assert (*written, END)[:2] == best
        assert float(found.log_likelihood_BS[b].sum()) == pytest.approx(scores[best], abs=1e-5)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("beams", [1, 2, 4])
def test_beam_search_equals_the_plain_one(beams: int, penalty: float) -> None:
    ended = set()
    for seed in (7, 11, 12):
        model, prefix = small(seed), pictures(3)
        found = write(model, prefix, beams, words=4, penalty=penalty)
        for b in range(3):
            picture = changed(prefix, pixels_BFCHW=flat(prefix).pixels_BFCHW[b : b + 1])
            text = tuple(found.ids_BS[b].tolist())
            plain = beam_search_plainly(model, picture, beams, 4, penalty)
            assert text == plain[: len(text)]
            assert set(plain[len(text) :]) <= {END}
            expected_SV = parallel(model, picture, found.ids_BS[b : b + 1])[0]
            assert float(found.log_likelihood_BS[b].sum()) == pytest.approx(score(expected_SV, text), abs=1e-5)
            ended.add(END in text[:-1])
    assert ended == {True, False}  # some texts end before the others of their batch


def test_greedy_takes_the_most_likely_word_each_time() -> None:
    model, prefix = small(12), pictures(3)
    found = write(model, prefix, beams=1, words=6)
    expected_BSV = parallel(model, prefix, found.ids_BS)
    for b, text in enumerate(found.ids_BS.tolist()):
        alive = text.index(END) + 1 if END in text else len(text)
        assert expected_BSV[b, :alive].argmax(dim=1).tolist() == text[:alive]
        assert not found.log_likelihood_BS[b, alive:].any()
        assert set(text[alive:]) <= {END}


def test_a_length_penalty_prefers_longer_texts() -> None:
    lengths = {penalty: 0 for penalty in (0.0, 1.0, 3.0)}
    for seed in (5, 6, 11):
        for penalty in lengths:
            lengths[penalty] += int((write(small(seed), pictures(4), 3, 6, penalty).ids_BS != END).sum())
    assert lengths[0.0] < lengths[1.0] <= lengths[3.0]


def test_neighbours_in_the_batch_change_nothing() -> None:
    model, prefix = small(11), pictures(4)
    together = write(model, prefix, beams=3, words=6)
    assert len({(ids == END).sum().item() for ids in together.ids_BS}) > 1
    for b in range(4):
        alone = write(model, changed(prefix, pixels_BFCHW=flat(prefix).pixels_BFCHW[b : b + 1]), beams=3, words=6)
        length = alone.ids_BS.shape[1]
        assert torch.equal(together.ids_BS[b, :length], alone.ids_BS[0])
        assert bool((together.ids_BS[b, length:] == END).all())
        torch.testing.assert_close(together.log_likelihood_BS[b, :length], alone.log_likelihood_BS[0])


def test_texts_can_be_written_without_a_picture() -> None:
    """A prefix of nothing but <SPE>: each row computes what training computes for a text alone."""
    model = small()
    blank = sequences_of(facts=TASK.facts("input"), ids_BN=torch.zeros(2, 0, dtype=torch.int64))
    found = write(model, blank, beams=2, words=3)
    expected_BSV = parallel(model, blank, found.ids_BS)
    for b, text in enumerate(found.ids_BS.tolist()):
        written = score(expected_BSV[b], tuple(text))
        assert float(found.log_likelihood_BS[b].sum()) == pytest.approx(written, abs=1e-5)


def test_a_text_may_be_as_long_as_the_table_of_positions_and_no_longer() -> None:
    assert write(small(), pictures(1), beams=1, words=8).ids_BS.shape[1] <= 8
    with pytest.raises(UserError, match="9 tokens: the model has 8 text positions"):
        write(small(), pictures(1), beams=1, words=9)


def test_more_beams_than_words_are_refused() -> None:
    with pytest.raises(UserError, match="2000 beams"):
        write(small(), pictures(1), 2000, 3)
