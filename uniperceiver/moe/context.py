"""One forward pass as routing sees it, and the order in which the encoder holds its tokens.

Shape suffixes: B sequences, N tokens of a sequence, T tokens of all sequences in the order of the pass, S segments,
D width, X any.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from uniperceiver.records import Decision, Segment


@dataclass(frozen=True, kw_only=True)
class ForwardContext:
    """One forward pass of the encoder, as routing sees it beside the values.

    The encoder works on all tokens in one row, T = B * N: sequence after sequence, or, with `token_first`, the first
    token of every sequence, then the second, ...: there a segment is one slice, which a matrix multiplies at once.
    """

    sequences: int
    length: int
    segments: tuple[Segment, ...]
    device: torch.device
    token_first: bool = False
    valid_BN: Tensor | None = None  # bool; None: no padding
    shared_BN: Tensor | None = None  # bool, tokens that every token of the sequence may look at; None: all of them
    answer_BN: Tensor | None = None  # bool, where <SPE> stands; None: nobody asks
    stream: torch.Generator | None = None  # draws the gates' noise in training
    place_B: Tensor | None = None  # int64, places in the batch that was planned
    planned: int = 0
    # By (layer, part): the pooled context, (B, D). In generation, that of the prefix.
    pooled: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    # In generation: weights that linears with experts merged in an earlier pass, in their own forward; else None.
    merged: dict[object, tuple[Tensor, Tensor]] | None = None
    decisions: list[Decision] = field(default_factory=list)
    groups: dict[object, Any] = field(default_factory=dict)  # by condition: the segment groups, found once for a pass
    routes: dict[object, Any] = field(default_factory=dict)  # by router: what it decided ahead

    def pack(self, x_BNX: Tensor) -> Tensor:
        """All tokens in the order of the pass, (T, X)."""
        return (x_BNX.transpose(0, 1) if self.token_first else x_BNX).flatten(0, 1)

    def unpack(self, x_TX: Tensor) -> Tensor:
        """The same tokens by sequence, (B, N, X); a view."""
        if self.token_first:
            return x_TX.unflatten(0, (self.length, self.sequences)).transpose(0, 1)
        return x_TX.unflatten(0, (self.sequences, self.length))

    def first(self) -> "ForwardContext":
        """The pass that goes on with the first token of every sequence only."""
        return replace(
            self,
            length=1,
            segments=(replace(self.segments[0], stop=1),),
            valid_BN=None,  # <SPE> is no padding
            answer_BN=None if self.answer_BN is None else self.answer_BN[:, :1],
            shared_BN=None,
            groups={},
            routes={},
        )

    def twin(self) -> "ForwardContext":
        """This pass as it is now, for computing a part of it once more: it draws the same, and nobody hears of it."""
        return replace(
            self,
            stream=None if self.stream is None else self.stream.clone_state(),
            pooled=dict(self.pooled),
            decisions=[],
        )

    def alone(self, tokens: int) -> "ForwardContext":
        """The pass of a few tokens that belong to the first segment and are alike for all sequences: of a prompt."""
        segment = replace(self.segments[0], start=0, stop=tokens)
        return ForwardContext(sequences=1, length=tokens, segments=(segment,), device=self.device, merged=self.merged)

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Where each segment begins and ends among the T tokens.

        Segments of a sequence-first pass have no slice, unless there is only one.
        """
        if len(self.segments) == 1:
            return ((0, self.sequences * self.length),)
        assert self.token_first, "several segments are slices only in token-first order"
        return tuple((segment.start * self.sequences, segment.stop * self.sequences) for segment in self.segments)

    @cached_property
    def segment_T(self) -> Tensor:
        """int64, the segment of each token, -1 in padding."""
        # Filled, as repeating by a tensor of lengths is data-dependent, which an exported graph cannot be.
        index_N = torch.cat(
            [
                torch.full((segment.stop - segment.start,), place, device=self.device)
                for place, segment in enumerate(self.segments)
            ]
        )
        index_BN = index_N.expand(self.sequences, -1)
        if self.valid_BN is not None:
            index_BN = index_BN.masked_fill(~self.valid_BN, -1)
        return self.pack(index_BN[:, :, None])[:, 0]

    @cached_property
    def tokens_S(self) -> Tensor:
        """float32, tokens of each segment without padding."""
        if self.valid_BN is None:
            counts = [float(self.sequences * (segment.stop - segment.start)) for segment in self.segments]
            return torch.tensor(counts, device=self.device)
        return torch.stack([self.valid_BN[:, segment.start : segment.stop].sum() for segment in self.segments]).float()
