"""Foreign tokenizer.json files become text encoders."""

import pickle
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from uniperceiver.errors import UserError
from uniperceiver.tokenizers import bpe

TEXTS = ["a small red circle", "the cat's hat isn't 12 cm wide"] * 3
SPECIAL_TEXT = "the <|endoftext|> <|spe|><|SPE|>the<|endoftext|>"


def foreign(kind: str) -> Tokenizer:
    """A tokenizer as other libraries save them."""
    if kind == "bpe":  # as GPT-2: bytes, its own end token
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=280, special_tokens=[bpe.END], initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(TEXTS, trainer)
    elif kind == "unigram":  # as T5: the model itself finds its special tokens in a text
        pieces = [("<unk>", 0.0), (bpe.END, 0.0), ("▁the", -1.0), ("▁", -2.0), ("t", -3.0)]
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        tokenizer.add_special_tokens([bpe.END])
        tokenizer.add_tokens([AddedToken(bpe.ANSWER, normalized=False)])
    elif kind == "words":  # as BERT, with all that would change ids behind our back
        tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, bpe.ANSWER: 2}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.enable_truncation(2)
        tokenizer.enable_padding(length=9)
    else:  # "whole": no splitting rule; merges that write the answer token out of a text
        steps = ["<", "<|", "<|s", "<|sp", "<|spe", "<|spe|", bpe.ANSWER]
        letters = ["[UNK]", "▁", *"|spe>th"]
        merges = list(zip(steps, bpe.ANSWER[1:], strict=False))
        vocabulary = {piece: id for id, piece in enumerate([*letters, *steps])}
        tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="[UNK]", dropout=0.5))
        tokenizer.add_special_tokens([bpe.ANSWER])
    return tokenizer


@pytest.mark.parametrize("kind", ["bpe", "unigram", "words", "whole"])
def test_a_copy_is_the_same(kind: str, tmp_path: Path) -> None:
    foreign(kind).save(str(tmp_path / "tokenizer.json"))
    encoder = bpe.from_file(tmp_path / "tokenizer.json")
    again = pickle.loads(pickle.dumps(encoder))
    assert again == encoder
    assert again.encode(SPECIAL_TEXT) == encoder.encode(SPECIAL_TEXT)


@pytest.mark.parametrize(
    ("kind", "end", "answer", "size", "length"),
    [
        ("bpe", 0, 280, 281, 6),  # its own end token: no text can write it
        ("unigram", 6, 5, 7, 3),  # its END is a piece that a text can write; its ANSWER only an added token
        ("words", 3, 4, 5, 3),  # its ANSWER is a word
        ("whole", 16, 17, 18, 11),  # its ANSWER is the result of a merge
    ],
)
def test_a_foreign_tokenizer_keeps_its_ids_and_its_specials_stay_unwritten(
    kind: str, end: int, answer: int, size: int, length: int, tmp_path: Path
) -> None:
    foreign(kind).save(str(tmp_path / "tokenizer.json"))
    encoder = bpe.from_file(tmp_path / "tokenizer.json")
    assert (encoder.end, encoder.answer, encoder.size) == (end, answer, size)
    ids = encoder.encode(SPECIAL_TEXT)
    assert ids == [id for word in encoder.encode_words(SPECIAL_TEXT) for id in word]
    assert len(ids) > 2
    assert not {end, answer} & set(ids)
    assert len(encoder.encode_words("the the")) > 1
    assert len(encoder.encode("the the the")) == length  # neither cut nor padded
    assert all(encoder.encode(SPECIAL_TEXT) == ids for _ in range(9))  # nor random
    encoder.save(tmp_path / "ours.json")
    assert bpe.load(tmp_path / "ours.json") == encoder


def test_the_ids_of_a_foreign_tokenizer_are_its_own(tmp_path: Path) -> None:
    foreign("bpe").save(str(tmp_path / "tokenizer.json"))
    encoder = bpe.from_file(tmp_path / "tokenizer.json")
    text = "A small  hat:\n\nthe 12 cm 日本"
    assert encoder.encode(text) == foreign("bpe").encode(text).ids
    assert encoder.decode(encoder.encode(text)) == " ".join(text.split())


def test_a_foreign_tokenizer_that_cannot_encode_every_text_is_refused(tmp_path: Path) -> None:
    Tokenizer(models.WordLevel({"the": 0})).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match=r"tokenizer\.json: cannot encode every text"):
        bpe.from_file(tmp_path / "tokenizer.json")
