"""The plain way to write a text, which the cache is measured against: prefix and words are encoded anew for each word.

Shape suffixes: B sequences (beams, grouped by sequence), S words, D width.
"""

import torch
from torch import Tensor

from benchmarks.parts import changed, flat
from uniperceiver.model.model import Generalist
from uniperceiver.records import Sequences


class Texts:
    """The prefixes, and the words that were written behind them."""

    def __init__(self, prefix: Sequences) -> None:
        assert flat(prefix).pixels_BFCHW is not None
        self.prefix = changed(prefix, ids_BN=None, order_BN=None, query_BN=None)
        self.pixels_BFCHW = flat(prefix).pixels_BFCHW
        self.words_BS = torch.zeros(prefix.size, 0, dtype=torch.int64)

    def repeat(self, times: int) -> None:
        """Every text `times` times: one per beam."""
        self.pixels_BFCHW = self.pixels_BFCHW.repeat_interleave(times, dim=0)
        self.words_BS = self.words_BS.repeat_interleave(times, dim=0)

    def reorder(self, parent_B: Tensor) -> None:
        """Text i continues text parent_B[i] of the same sequence."""
        self.words_BS = self.words_BS[parent_B]


class WithoutCache:
    """Writes what a model writes."""

    def __init__(self, model: Generalist) -> None:
        self.model = model

    def begin(self, prefix: Sequences, words: int) -> tuple[Texts, Tensor]:
        """The prefixes, and encoder outputs at the query for the first word, (B, D)."""
        texts = Texts(prefix)
        return texts, self._at_query(texts)

    def extend(self, texts: Texts, word_B: Tensor, place: int) -> Tensor:
        """Outputs at the query behind the new word, (B, D)."""
        texts.words_BS = torch.cat([texts.words_BS, word_B[:, None]], dim=1)
        return self._at_query(texts)

    def _at_query(self, texts: Texts) -> Tensor:
        b, s = texts.words_BS.shape
        query_B1 = torch.full((b, 1), self.model.tokenizer.words.answer)
        place_BN = torch.arange(s + 1).expand(b, -1)
        sequences = changed(
            texts.prefix,
            pixels_BFCHW=texts.pixels_BFCHW,
            ids_BN=torch.cat([texts.words_BS, query_B1], dim=1),
            position_BN=place_BN,
            order_BN=place_BN + 1,
            query_BN=place_BN == s,
        )
        return self.model.encode(sequences).x_BND[:, -1]
