"""<SPE>, patches and words become one sequence under one LayerNorm; its segments say what is where."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.parts import flat, sequences_of
from tests.tiny import PATCH, tiny_batch, tiny_model
from uniperceiver.records import Facts, Part, Segment, Sequences
from uniperceiver.streams import torch_stream
from uniperceiver.tokenizers.join import SequenceTokenizer
from uniperceiver.tokenizers.regions.shape import RegionShape
from uniperceiver.tokenizers.regions.tokens import RegionTokenizer

FACTS = Facts(side="input", inputs=("visual", "text"), targets=("text",), task=3)
IDS = torch.tensor([[5, 7, 9], [8, 0, 0]])
VALID = torch.tensor([[True, True, True], [True, False, False]])


def joined(**fields: object) -> SequenceTokenizer:
    return tiny_model(**fields).tokenizer


def visual(frames: int = 1, b: int = 2) -> Tensor:
    return torch.randn(b, frames, 3, PATCH, 2 * PATCH, generator=torch_stream(0, frames))


def norm(one: SequenceTokenizer, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * one.norm.weight + one.norm.bias


def test_picture_and_text_in_one_sequence() -> None:
    one = joined()
    tokens = one(sequences_of(facts=FACTS, pixels_BFCHW=visual(), ids_BN=IDS, valid_BN=VALID))
    assert tokens.x_BND.shape == (2, 1 + 2 + 3, 16)
    parts = (one.words.words[one.words.answer].expand(2, 1, -1), one.patches(visual()), one.words(IDS, None))
    torch.testing.assert_close(tokens.x_BND, norm(one, torch.cat(parts, dim=1)))
    assert tokens.segments == (
        Segment(start=0, stop=3, kind="visual", causal=False, facts=FACTS),
        Segment(start=3, stop=6, kind="text", causal=False, facts=FACTS),
    )
    assert tokens.valid_BN.tolist() == [[True] * 6, [True] * 4 + [False] * 2]
    assert tokens.order_BN is None


def test_a_picture_alone_and_a_text_alone() -> None:
    one = joined()
    picture = one(sequences_of(facts=FACTS, pixels_BFCHW=visual(frames=3)))
    assert picture.x_BND.shape[1] == 1 + 3 * 2
    assert picture.segments == (Segment(start=0, stop=7, kind="visual", causal=False, facts=FACTS),)
    assert picture.valid_BN is None
    text = one(sequences_of(facts=FACTS, ids_BN=IDS, valid_BN=VALID))
    assert text.segments == (Segment(start=0, stop=4, kind="text", causal=False, facts=FACTS),)
    assert text.valid_BN.tolist() == [[True] * 4, [True, True, False, False]]


def test_proposals_are_found_behind_what_stands_before_them() -> None:
    """<SPE> and, of a picture behind a text, that text; then the tokens of the whole picture."""
    shape = RegionShape(backbone_layers=1, decoder=1, queries=4, tokens=3, points=2)
    one = joined()
    regions = RegionTokenizer(16, 2, PATCH, shape)
    one.add_module("regions", regions)
    one.instead["image"] = "regions"
    picture = torch.randn(2, 1, 3, 4 * PATCH, 4 * PATCH, generator=torch_stream(0))
    image, text = Part(modality="image", values=picture), Part(modality="text", values=IDS)
    x_BGD, alone = regions.propose(picture[:, 0])
    for parts, before in (((image,), 1), ((text, image), 4)):
        tokens = one(Sequences(facts=FACTS, parts=parts))
        start = tokens.regions.start
        assert start == before + alone.start
        expected_BND = norm(one, x_BGD[:, alone.start : alone.start + 3])
        torch.testing.assert_close(tokens.x_BND[:, start : start + 3], expected_BND)


def test_words_that_are_asked_for_stand_behind_a_prefix_of_order_0() -> None:
    batch = tiny_batch("image_captioning")
    tokens, inputs = joined()(batch.inputs), batch.inputs
    first, second = tokens.segments
    assert (first.causal, second.causal) == (False, True)
    assert second.stop - second.start == flat(inputs).ids_BN.shape[1]
    assert not tokens.order_BN[:, : first.stop].any()
    assert not tokens.query_BN[:, : first.stop].any()
    assert torch.equal(tokens.order_BN[:, first.stop :], flat(inputs).order_BN)
    assert torch.equal(tokens.query_BN[:, first.stop :], flat(inputs).query_BN)
    # Word i and the query for it stand at the same position.
    n = flat(inputs).ids_BN.shape[1] // 2
    one = joined()
    expected = norm(one, one.words(flat(inputs).ids_BN[:, n:], torch.arange(n).expand(3, n)))
    torch.testing.assert_close(tokens.x_BND[:, -n:], expected)


def rows_taken(one: SequenceTokenizer, frames: int, draws: int = 60) -> set[int]:
    """First temporal rows that streams draw, told by marks in the temporal table."""
    sequences, seen = sequences_of(facts=FACTS, pixels_BFCHW=visual(frames)), set()
    still = one(sequences).x_BND
    for seed in range(draws):
        x_BND = one(sequences, torch_stream(seed)).x_BND
        for row in range(one.patches.temporal.shape[0] - frames + 1):
            expected = norm(
                one, torch.cat([one.words.prefix(2), one.patches(flat(sequences).pixels_BFCHW, row)], dim=1)
            )
            if torch.allclose(x_BND, expected, atol=1e-6):
                seen.add(row)  # the same for all samples of the batch
                break
        else:
            raise AssertionError("no single row fits the whole batch")
    assert torch.equal(one(sequences).x_BND, still)
    return seen


@pytest.mark.parametrize(
    ("fields", "frames", "expected"),
    [
        ({}, 1, {0}),  # still images: always row 0
        ({"random_still_row": True}, 1, {0, 1, 2, 3}),  # as the original
        ({}, 2, {0, 1, 2}),
        ({}, 4, {0}),
        ({"frame_offset": False}, 2, {0}),
        ({"frame_offset": False, "random_still_row": True}, 1, {0, 1, 2, 3}),
    ],
)
def test_the_first_temporal_row_is_drawn_once_per_batch(
    fields: dict[str, bool], frames: int, expected: set[int]
) -> None:
    assert rows_taken(joined(**fields), frames) == expected


@pytest.mark.parametrize("frames", [1, 2, 6])
def test_without_a_stream_clips_start_at_row_0(frames: int) -> None:
    one = joined(random_still_row=True)
    x_BND = one(sequences_of(facts=FACTS, pixels_BFCHW=visual(frames))).x_BND
    torch.testing.assert_close(x_BND[:, 1:], norm(one, one.patches(visual(frames), 0)))


def test_longer_clips_than_the_table_draw_nothing() -> None:
    one, sequences = joined(), sequences_of(facts=FACTS, pixels_BFCHW=visual(6))
    assert torch.equal(one(sequences).x_BND, one(sequences, torch_stream(1)).x_BND)


@pytest.mark.parametrize(
    "change",
    [
        lambda inputs: replace(inputs, facts=replace(FACTS, task=None)),
        lambda inputs: replace(inputs, facts=replace(FACTS, side="candidate")),
    ],
)
def test_facts_change_no_value(change: Callable[[Sequences], Sequences]) -> None:
    one, inputs = joined(), sequences_of(facts=FACTS, ids_BN=IDS, valid_BN=VALID)
    changed = one(change(inputs))
    assert torch.equal(changed.x_BND, one(inputs).x_BND)
    assert changed.segments[0].facts != FACTS
