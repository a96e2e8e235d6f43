"""Token ids become word tokens: word vector + learned position + type, before the shared LayerNorm."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.records import Part


class WordTokenizer(nn.Module):
    """The vocabulary's vectors, shared by texts, candidates and the <SPE> token.

    Args:
        answer: id of <SPE>.
    """

    def __init__(self, width: int, *, vocabulary: int, max_text: int, answer: int) -> None:
        super().__init__()
        self.answer = answer
        self.words = nn.Parameter(torch.empty(vocabulary, width).normal_(0.0, 0.02))
        self.positions = nn.Parameter(torch.empty(max_text, width).normal_(0.0, 0.02))
        self.kind = nn.Parameter(torch.empty(width).normal_(0.0, 0.02))

    @torch.no_grad()
    def initialise(self, stream: torch.Generator | None) -> None:
        """Draw all tables from N(0, 0.02)."""
        for table in (self.words, self.positions, self.kind):
            table.normal_(0.0, 0.02, generator=stream)

    def forward(self, ids_BN: Tensor, position_BN: Tensor | None, answer_D: Tensor | None = None) -> Tensor:
        """(B, N, D) tokens; positions are 0..N-1 unless given; `answer_D` is added to every <SPE>."""
        word_BND = F.embedding(ids_BN, self.words)
        if answer_D is not None:
            word_BND = torch.where((ids_BN == self.answer)[:, :, None], word_BND + answer_D, word_BND)
        if position_BN is None and ids_BN.shape[1] > len(self.positions):
            raise UserError(
                f"a text of {ids_BN.shape[1]} tokens is longer than the model's {len(self.positions)} text positions; "
                "shorten it, or train with a larger model.max_text"
            )
        if position_BN is None:
            return word_BND + (self.positions[: ids_BN.shape[1]] + self.kind)
        return word_BND + (F.embedding(position_BN, self.positions) + self.kind)

    def embed(self, part: Part, stream: torch.Generator | None = None, answer_D: Tensor | None = None) -> Tensor:
        """(B, N, D) tokens of a part; nothing is drawn."""
        return self(part.values, part.position_BN, answer_D)

    def prefix(self, sequences: int, answer_D: Tensor | None = None) -> Tensor:
        """(B, 1, D): the <SPE> that begins every sequence, without position and type."""
        word_D = self.words[self.answer]
        return (word_D if answer_D is None else word_D + answer_D).expand(sequences, 1, -1)
