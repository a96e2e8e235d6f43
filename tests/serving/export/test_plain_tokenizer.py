"""The tokenizer.json of an export gives other tools the ids of the model's own encoder, on 10,000 strings."""

import numpy as np

from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.serving.export.other_tools import plain_tokenizer
from uniperceiver.tokenizers import bpe

PIECES = (
    *"aeiou XYZ 0189 .,;:!?'\"-_/\\()[]{}<>|@#$%^&*+=~`",
    *(" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u200b", "\ufeff", "\x00", "\x1f", "\x7f"),
    *(
        "é",
        "e\u0301",
        "ß",
        "ẞ",
        "İ",
        "ı",
        "Ǆ",
        "ﬁ",
        "Å",
        "Ω",
        "ς",
        "σ",
        "Σ",
        "ж",
        "Ж",
        "中",
        "한",
        "か\u3099",
        "ا",
        "ש",
    ),
    *("😀", "👩‍👩‍👧", "🇩🇪", "\ufffd", "\U0010ffff", "𝔘", "¼", "²", "٣"),
    *("n't", "'S", "'re", "it's", "red circle", "Blue SQUARE", "</w>", "<|start", "endoftext|>", "##a", "Ġ", "▁"),
)
FINAL_SIGMA = "Σ"  # that ends a word is lower-cased otherwise (docs/export.md)


def strings(count: int) -> list[str]:
    """Captions, and what nobody should write."""
    rng, source = np.random.default_rng(23), ScenesSource(items=600)
    captions = list(source.texts())[: count // 3]
    lengths = rng.integers(0, 24, count - len(captions))
    return captions + ["".join(rng.choice(PIECES, length)) for length in lengths]


def test_ids_are_those_of_the_model_on_ten_thousand_strings() -> None:
    from tokenizers import Tokenizer

    codec = bpe.train(ScenesSource(items=200).texts(), size=600, lowercase=True)
    plain = Tokenizer.from_str(str(plain_tokenizer(codec)))
    texts = strings(10_000)
    ids = [encoding.ids for encoding in plain.encode_batch(texts)]
    others = [text for text, of in zip(texts, ids, strict=True) if of != [*codec.encode(text), codec.end]]
    assert len(texts) == 10_000
    assert [text for text in others if FINAL_SIGMA not in text] == []
    assert len(others) < 300
