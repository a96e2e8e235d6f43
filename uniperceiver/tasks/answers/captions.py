"""The answer is a text that is written word by word: each next word is the likeliest entry of the vocabulary."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from uniperceiver.modalities import TEXT
from uniperceiver.records import Part, Readout, Sample, Sequences
from uniperceiver.tasks.answers.kind import Asked, caption_of, readout_in_text
from uniperceiver.tasks.answers.masked_words import VocabularyAnswer
from uniperceiver.tasks.candidates import TextCodec
from uniperceiver.tasks.sequences import cut, pad
from uniperceiver.tasks.text import Text

if TYPE_CHECKING:
    from uniperceiver.tasks.task import Task


class Captions(VocabularyAnswer):
    """Words, then one query (<SPE>) per word at the word's own position, which sees the words before it."""

    read_at = ("next",)
    question = "caption"
    causal = True

    def reads_text(self, task: "Task") -> bool:
        """Not the sample's text, but one of its captions."""
        return False

    def lacking(self, task: "Task", sample: Sample, *, training: bool) -> str | None:
        return None if sample.captions else "caption"

    def asked(
        self, task: "Task", sample: Sample, codec: TextCodec, length: int, rng: np.random.Generator, *, training: bool
    ) -> Asked:
        words = tuple(cut(codec.encode(caption_of(sample, rng, training=training)), codec.end, length))
        return Asked(sample=sample.id, text=Text(ids=words, ask_at=tuple(range(len(words))), target=words))

    def most_tokens(self, task: "Task", length: int) -> int:
        return 2 * length  # words and queries

    def lengths(self, task: "Task", sample: Sample, codec: TextCodec) -> list[int]:
        return [len(codec.encode(caption)) + 1 for caption in sample.captions]

    def text_part(self, asked: Sequence[Asked], codec: TextCodec) -> Part:
        """Words and queries, both padded alike."""
        ids_BN, valid_BN = pad([sample.text.ids for sample in asked if sample.text is not None])
        place_BN = torch.arange(ids_BN.shape[1]).expand_as(ids_BN)
        is_query_BN = torch.zeros_like(ids_BN, dtype=torch.bool)
        return Part(
            modality=TEXT,
            values=torch.cat([ids_BN, torch.full_like(ids_BN, codec.answer)], dim=1),
            valid_BN=None if valid_BN is None else torch.cat([valid_BN, valid_BN], dim=1),
            position_BN=torch.cat([place_BN, place_BN], dim=1),
            order_BN=torch.cat([place_BN, place_BN], dim=1) + 1,
            query_BN=torch.cat([is_query_BN, ~is_query_BN], dim=1),
        )

    def readout(self, task: "Task", asked: Sequence[Asked], inputs: Sequences) -> Readout:
        assert inputs.text is not None
        return readout_in_text(asked, inputs, behind=inputs.text.values.shape[1] // 2)
