"""The order in which the encoder holds its tokens: there and back, and where segments lie in it.

Shape suffixes: B sequences, N tokens, T tokens of all sequences, S segments, X any.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from uniperceiver.moe.context import ForwardContext
from uniperceiver.records import Facts, Segment

FACTS = Facts(side="input", inputs=("visual", "text"), targets=("text",))
SEGMENTS = (
    Segment(start=0, stop=3, kind="visual", causal=False, facts=FACTS),
    Segment(start=3, stop=7, kind="text", causal=False, facts=FACTS),
)
VALID_BN = torch.ones(2, 7, dtype=torch.bool)
VALID_BN[0, 5:] = False


def context_of(
    token_first: bool, valid_BN: Tensor | None = VALID_BN, segments: tuple[Segment, ...] = SEGMENTS
) -> ForwardContext:
    return ForwardContext(
        sequences=2,
        length=7,
        segments=segments,
        device=torch.device("cpu"),
        token_first=token_first,
        valid_BN=valid_BN,
        shared_BN=valid_BN,
    )


@pytest.mark.parametrize("token_first", [False, True])
def test_tokens_come_back_as_they_were(token_first: bool) -> None:
    x_BNX, context = torch.arange(2 * 7 * 3).view(2, 7, 3), context_of(token_first)
    x_TX = context.pack(x_BNX)
    assert x_TX.shape == (14, 3)
    assert torch.equal(context.unpack(x_TX), x_BNX)
    expected = (
        [(b, n) for n in range(7) for b in range(2)] if token_first else [(b, n) for b in range(2) for n in range(7)]
    )
    assert x_TX.tolist() == [x_BNX[b, n].tolist() for b, n in expected]
    assert context.unpack(x_TX).data_ptr() == x_TX.data_ptr()  # a view


def test_a_segment_is_one_slice_in_token_first_order() -> None:
    context = context_of(token_first=True)
    assert context.spans == ((0, 6), (6, 14))
    for (start, stop), segment in zip(context.spans, SEGMENTS, strict=True):
        x_BNX = torch.arange(14).view(2, 7, 1)
        assert sorted(context.pack(x_BNX)[start:stop].flatten().tolist()) == sorted(
            x_BNX[:, segment.start : segment.stop].flatten().tolist()
        )


def test_one_segment_is_one_slice_in_any_order_and_several_are_not() -> None:
    for token_first in (False, True):
        assert context_of(token_first, segments=(replace(SEGMENTS[0], stop=7),)).spans == ((0, 14),)
    with pytest.raises(AssertionError, match="token-first"):
        _ = context_of(token_first=False).spans


@pytest.mark.parametrize("token_first", [False, True])
def test_every_token_knows_its_segment_and_padding_has_none(token_first: bool) -> None:
    context = context_of(token_first)
    assert context.unpack(context.segment_T[:, None])[:, :, 0].tolist() == [
        [0, 0, 0, 1, 1, -1, -1],
        [0, 0, 0, 1, 1, 1, 1],
    ]
    assert context.tokens_S.tolist() == [6.0, 6.0]
    whole = context_of(token_first, valid_BN=None)
    assert whole.unpack(whole.segment_T[:, None])[:, :, 0].tolist() == [[0, 0, 0, 1, 1, 1, 1]] * 2
    assert whole.tokens_S.tolist() == [6.0, 8.0]


@pytest.mark.parametrize("token_first", [False, True])
def test_the_first_tokens_go_on_alone(token_first: bool) -> None:
    context = context_of(token_first)
    assert context.spans if token_first else True  # what was computed for all tokens is not kept
    assert len(context.segment_T) == 14
    first = context.first()
    assert (first.sequences, first.length, first.valid_BN, first.shared_BN) == (2, 1, None, None)
    assert first.segments == (replace(SEGMENTS[0], stop=1),)
    assert first.spans == ((0, 2),)
    assert first.segment_T.tolist() == [0, 0]
    assert first.tokens_S.tolist() == [2.0]
    assert first.decisions is context.decisions
    x_BX = torch.arange(6).view(2, 3)
    assert torch.equal(first.unpack(first.pack(x_BX[:, None]))[:, 0], x_BX)
