"""BATCH -> TOKENS: <SPE>, patches and words joined into one sequence under one LayerNorm.

Shape suffixes: B sequences, N tokens, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.records import Segment, Sequences, Tokens
from uniperceiver.tokenizers.vision import PatchTokenizer
from uniperceiver.tokenizers.words import WordTokenizer


class SequenceTokenizer(nn.Module):
    """Sequences of any layout become Tokens; the LayerNorm is shared by all modalities.

    Args:
        random_still_row: give still images a random temporal row in training, as the original release does;
            otherwise always row 0.
        frame_offset: start clips at a random temporal row in training.
    """

    def __init__(
        self, words: WordTokenizer, patches: PatchTokenizer, *, random_still_row: bool, frame_offset: bool
    ) -> None:
        super().__init__()
        self.words, self.patches = words, patches
        self.norm = nn.LayerNorm(words.kind.shape[0], eps=1e-5)
        self.random_still_row, self.frame_offset = random_still_row, frame_offset

    def forward(
        self,
        sequences: Sequences,
        stream: torch.Generator | None = None,
        *,
        answer_D: Tensor | None = None,
        labels_KD: Tensor | None = None,
    ) -> Tokens:
        """Tokens of the sequences.

        Args:
            stream: draws the temporal offset in training; None: none.
            answer_D: added to the word vector of every <SPE>.
            labels_KD: a vector for each class, put behind the <SPE> of its names.
        """
        parts = [self.words.prefix(sequences.size, answer_D)]
        if sequences.pixels_BTCHW is not None:
            first = self._first_frame(sequences.pixels_BTCHW.shape[1], stream)
            parts.append(self.patches(sequences.pixels_BTCHW, first))
        visual = sum(part.shape[1] for part in parts)  # <SPE> belongs to the first segment
        if sequences.ids_BN is not None:
            parts.append(self.words(sequences.ids_BN, sequences.position_BN, answer_D))
        x_BND = self.norm(torch.cat(parts, dim=1))
        if labels_KD is not None and sequences.class_B is not None:
            x_BND = torch.cat([x_BND[:, :1], labels_KD[sequences.class_B][:, None], x_BND[:, 1:]], dim=1)
            visual += 1
        return Tokens(
            x_BND=x_BND,
            segments=_segments(sequences, visual, x_BND.shape[1]),
            place_B=sequences.place_B,
            planned=sequences.planned,
            valid_BN=_before(sequences.valid_BN, visual, True),
            order_BN=_before(sequences.order_BN, visual, 0),
            query_BN=_before(sequences.query_BN, visual, False),
        )

    def _first_frame(self, frames: int, stream: torch.Generator | None) -> int:
        wanted = self.frame_offset if frames > 1 else self.random_still_row
        room = self.patches.temporal.shape[0] - self.patches.times(frames)
        if stream is None or not wanted or room <= 0:
            return 0
        return int(torch.randint(room + 1, (), generator=stream))


def _before(values_BN: Tensor | None, prefix: int, fill: bool | int) -> Tensor | None:
    """The values of the text part, preceded by those of the prefix."""
    return None if values_BN is None else F.pad(values_BN, (prefix, 0), value=fill)


def _segments(sequences: Sequences, visual: int, length: int) -> tuple[Segment, ...]:
    causal, facts = sequences.order_BN is not None, sequences.facts
    if sequences.pixels_BTCHW is None:
        return (Segment(start=0, stop=length, kind="text", causal=causal, facts=facts),)
    first = Segment(start=0, stop=visual, kind="visual", causal=False, facts=facts)
    if sequences.ids_BN is None:
        return (first,)
    return (first, Segment(start=visual, stop=length, kind="text", causal=causal, facts=facts))
