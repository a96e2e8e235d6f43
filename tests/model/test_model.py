"""The model: what each token may know of the others, whatever stands beside it in the batch.

Shape suffixes: B sequences, N tokens, D width.
"""

import math

import pytest
import torch
from torch import Tensor

from benchmarks.parts import changed, flat, sequences_of
from tests.tiny import PATCH, tiny_codec, tiny_model, tiny_task
from uniperceiver.model.model import Generalist, Head
from uniperceiver.records import Sequences
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.task import TEMPERATURES

FACTS = tiny_task("image_captioning").facts("input")
PREFIX = 1 + 4  # <SPE> and 2 x 2 patches


def pixels(b: int = 2, frames: int = 1) -> Tensor:
    return torch.randn(b, frames, 3, 2 * PATCH, 2 * PATCH, generator=torch_stream(0, frames))


def caption(words_BN: Tensor, valid_BN: Tensor | None = None, pictures: Tensor | None = None) -> Sequences:
    """Words and the queries for them, as captioning trains them."""
    place_BN, none_BN = torch.arange(words_BN.shape[1]).expand_as(words_BN), torch.zeros_like(words_BN).bool()
    return sequences_of(
        facts=FACTS,
        pixels_BFCHW=pixels(len(words_BN)) if pictures is None else pictures,
        ids_BN=torch.cat([words_BN, torch.full_like(words_BN, tiny_codec().answer)], dim=1),
        valid_BN=None if valid_BN is None else torch.cat([valid_BN, valid_BN], dim=1),
        position_BN=torch.cat([place_BN, place_BN], dim=1),
        order_BN=torch.cat([place_BN, place_BN], dim=1) + 1,
        query_BN=torch.cat([none_BN, ~none_BN], dim=1),
    )


@torch.no_grad()
def encode(model: Generalist, sequences: Sequences) -> Tensor:
    return model.encode(sequences).x_BND


WORDS = torch.tensor([[40, 51, 62, 73, 84], [95, 106, 117, 128, 139]])


@pytest.mark.parametrize("word", range(5))
def test_a_word_is_known_only_to_later_words_and_queries(word: int) -> None:
    model, n = tiny_model(), 5
    before = encode(model, caption(WORDS))
    words = WORDS.clone()
    words[0, word] = 7
    moved_N = (encode(model, caption(words)) - before).abs().amax(dim=2)
    expected = [place >= word for place in range(n)] + [place > word for place in range(n)]
    assert [float(move) > 1e-4 for move in moved_N[0, PREFIX:]] == expected
    assert [float(move) <= 1e-6 for move in moved_N[0, PREFIX:]] == [not moved for moved in expected]
    assert moved_N[0, :PREFIX].max() <= 1e-6  # the picture never sees the text
    assert moved_N[1].max() <= 1e-6


@pytest.mark.parametrize("query", range(5))
def test_a_query_is_known_to_itself_alone(query: int) -> None:
    model, sequences = tiny_model(), caption(WORDS)
    ids_BN = flat(sequences).ids_BN.clone()
    ids_BN[0, 5 + query] = 7
    moved_N = (encode(model, changed(sequences, ids_BN=ids_BN)) - encode(model, sequences)).abs().amax(dim=2)
    assert [float(move) > 1e-4 for move in moved_N[0]] == [place == PREFIX + 5 + query for place in range(PREFIX + 10)]
    assert moved_N[0].topk(2).values[1] <= 1e-6


def test_every_word_and_query_sees_the_picture() -> None:
    model, other = tiny_model(), pixels()
    other[0, 0, :, :3, :3] += 2.0
    moved_N = (encode(model, caption(WORDS, pictures=other)) - encode(model, caption(WORDS))).abs().amax(dim=2)
    assert moved_N[0].min() > 1e-4
    assert moved_N[1].max() <= 1e-6


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_padding_moves_no_output(share: float) -> None:
    """A text alone, and the same text beside a longer one: `share` of its tokens are padding."""
    model, length = tiny_model(), 4
    padded = round(length / (1 - share)) - length
    text = torch.randint(0, tiny_codec().end, (1, length), generator=torch_stream(2))
    beside = torch.randint(0, tiny_codec().end, (1, length + padded), generator=torch_stream(3))
    for filling in (0, 7):
        filled = torch.cat([text, torch.full((1, padded), filling)], dim=1)
        ids_BN = torch.cat([filled, beside])
        valid_BN = torch.arange(length + padded) < torch.tensor([[length], [length + padded]])
        alone = encode(model, sequences_of(facts=FACTS, ids_BN=text))
        found = encode(model, sequences_of(facts=FACTS, ids_BN=ids_BN, valid_BN=valid_BN))
        torch.testing.assert_close(found[:1, : 1 + length], alone, atol=5e-6, rtol=0)
        causal_alone = encode(model, caption(text))
        causal = encode(model, caption(ids_BN, valid_BN, pixels()))
        queries = slice(PREFIX + length + padded, PREFIX + length + padded + length)
        torch.testing.assert_close(causal[:1, : PREFIX + length], causal_alone[:, : PREFIX + length], atol=5e-6, rtol=0)
        torch.testing.assert_close(causal[:1, queries], causal_alone[:, PREFIX + length :], atol=5e-6, rtol=0)


@pytest.mark.parametrize("frames", [1, 3])
def test_neighbours_in_the_batch_are_not_seen(frames: int) -> None:
    model, pictures = tiny_model(), pixels(4, frames)
    together = encode(model, sequences_of(facts=FACTS, pixels_BFCHW=pictures))
    for b in range(4):
        alone = encode(model, sequences_of(facts=FACTS, pixels_BFCHW=pictures[b : b + 1]))
        torch.testing.assert_close(together[b : b + 1], alone, atol=5e-6, rtol=0)


def test_an_image_is_a_clip_of_one_frame_and_frames_have_an_order() -> None:
    model, clip = tiny_model(), pixels(frames=2)
    forwards = encode(model, sequences_of(facts=FACTS, pixels_BFCHW=clip))
    backwards = encode(model, sequences_of(facts=FACTS, pixels_BFCHW=clip.flip(1)))
    assert (forwards[:, 0] - backwards[:, 0]).abs().max() > 1e-3


def test_the_head_is_a_norm_and_a_linear_map() -> None:
    head, x_RD = Head(16), torch.randn(3, 16, generator=torch_stream(0))
    with torch.no_grad():
        head.norm.weight.normal_(generator=torch_stream(1))
        head.norm.bias.normal_(generator=torch_stream(2))
    centred = x_RD - x_RD.mean(1, keepdim=True)
    normed = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-5).sqrt() * head.norm.weight + head.norm.bias
    torch.testing.assert_close(head(x_RD), normed @ head.linear.weight.T + head.linear.bias)


def test_there_is_one_temperature_per_family_starting_at_clips() -> None:
    model = Generalist(*(torch.nn.Identity() for _ in range(3)), temperatures=TEMPERATURES)
    assert set(model.temperatures) == set(TEMPERATURES)
    for name in TEMPERATURES:
        assert model.scale(name).item() == pytest.approx(1 / 0.07)


def test_generation_starts_from_the_prefix_and_one_query() -> None:
    """`begin` and `extend` are the training form, cut in pieces; beams are tested in tests/tasks/test_decode.py."""
    model, answer = tiny_model(), tiny_codec().answer
    expected = encode(model, caption(WORDS))[:, PREFIX + 5 :]
    query = torch.full((2, 1), answer)
    start = sequences_of(facts=FACTS, pixels_BFCHW=pixels(), ids_BN=query, order_BN=query * 0 + 1, query_BN=query > 0)
    with torch.no_grad():
        cache, x_BD = model.begin(start, 5)
        torch.testing.assert_close(x_BD, expected[:, 0], atol=1e-5, rtol=0)
        for place in range(1, 5):
            x_BD = model.extend(cache, WORDS[:, place - 1], place)
            torch.testing.assert_close(x_BD, expected[:, place], atol=1e-5, rtol=0)


def test_a_temperature_has_a_limit_above_which_it_learns_nothing() -> None:
    model = tiny_model()
    name = next(iter(model.temperatures))
    for value, expected in ((1.0, math.e), (9.0, 100.0)):
        with torch.no_grad():
            model.temperatures[name].fill_(value)
        scale = model.scale(name)
        assert float(scale.detach()) == pytest.approx(expected, rel=1e-6)
        model.zero_grad()
        scale.backward()
        gradient = model.temperatures[name].grad
        assert gradient is not None
        assert bool(gradient) == (value < math.log(100))
