"""The BPE that is trained here, and the encoder's file."""

import copy
import json
import os
import pickle
import random
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.errors import UserError
from uniperceiver.tokenizers import bpe

TEXTS = ["A small red circle is left of the big blue square.", "the cat's hat isn't 12 cm wide", "ΣΑΣ <|spe|> 日本"] * 3
SPECIAL_TEXT = "the <|endoftext|> <|spe|><|SPE|>the<|endoftext|>"


@pytest.fixture(scope="module")
def encoder() -> bpe.TextEncoder:
    return bpe.train(TEXTS, size=310, lowercase=True)


def random_texts(count: int) -> list[str]:
    draw = random.Random(0)
    pieces = [
        "the",
        " red",
        "Cat's",
        "ΣΑΣ",
        "İ",
        "<|spe|>",
        "<|endoftext|>",
        "Ġ",
        "日本",
        "\ud83d\ude00",
        "\ud800",
        "\ud800a",
    ]
    pieces += ["\n", "\t", "\x1c", "\x85", "\u00a0", "\u2028", "\u200b", "\ufeff", "\0", "  ", *" .,'!09²"]
    known = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) != "Cs"]
    return [
        "".join(draw.choice(pieces if draw.random() < 0.6 else known) for _ in range(draw.randrange(12)))
        for _ in range(count)
    ]


def test_an_accent_may_be_a_character_of_its_own(encoder: bpe.TextEncoder, tmp_path: Path) -> None:
    apart, joined = "a cafe\N{COMBINING ACUTE ACCENT}", "A caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    encoder.save(tmp_path / "tokenizer.json")
    for codec in (encoder, bpe.load(tmp_path / "tokenizer.json")):
        assert codec.encode(apart) == codec.encode(joined)
        assert codec.encode_words(apart) == codec.encode_words(joined)
        assert codec.clean(apart) == codec.clean(joined) == joined.lower()
    values = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    values["tokenizer"]["normalizer"] = None  # as saved before
    (tmp_path / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    old = bpe.load(tmp_path / "tokenizer.json")
    assert old.encode(joined) == encoder.encode(joined)
    assert old.encode(apart) != old.encode(joined)


def test_decoding_gives_the_cleaned_text_back(encoder: bpe.TextEncoder) -> None:
    for text in random_texts(2000):
        normal = " ".join(text.lower().encode("utf-16", "surrogatepass").decode("utf-16", "replace").split())
        assert encoder.decode(encoder.encode(text)) == encoder.library.normalizer.normalize_str(normal)


def test_case_is_kept_on_request() -> None:
    encoder = bpe.train(TEXTS, size=300, lowercase=False)
    assert encoder.decode(encoder.encode(" The\nCAT ")) == "The CAT"
    assert encoder.encode("The") != encoder.encode("the")


def test_words_join_to_the_ids(encoder: bpe.TextEncoder) -> None:
    for text in random_texts(500):
        assert [id for word in encoder.encode_words(text) for id in word] == encoder.encode(text)
    words = encoder.encode_words("The red zebra, red")
    assert [encoder.decode(word) for word in words] == ["the", "red", "zebra", ",", "red"]
    assert words[1] == words[-1]
    assert len(words[2]) > 1
    assert encoder.encode("red red") == 2 * encoder.encode("red")
    assert encoder.encode("") == encoder.encode_words(" \n") == []


def test_the_specials_end_the_vocabulary_and_no_text_writes_them(encoder: bpe.TextEncoder) -> None:
    assert (encoder.end, encoder.answer) == (encoder.size - 2, encoder.size - 1)
    for text in [*random_texts(1000), SPECIAL_TEXT]:
        ids = encoder.encode(text)
        assert all(0 <= id < encoder.end for id in ids)
    assert encoder.decode(encoder.encode(SPECIAL_TEXT)) == SPECIAL_TEXT.lower()


def test_decoding_stops_at_the_end_and_leaves_out_what_is_no_word(encoder: bpe.TextEncoder) -> None:
    ids = encoder.encode("a red hat")
    assert encoder.decode([encoder.answer, -1, *ids, encoder.size, 10**12, encoder.end, *ids]) == "a red hat"
    assert encoder.decode([]) == encoder.decode([encoder.end]) == ""
    assert "�" in encoder.decode(encoder.encode("日")[:1])


def test_the_size_is_what_was_asked_for_or_what_the_texts_give(encoder: bpe.TextEncoder) -> None:
    assert encoder.size == 310
    assert bpe.train(["ab ab"], size=10_000, lowercase=True).size == 256 + 2 + 2  # "ab" and " ab"
    assert bpe.train([], size=258, lowercase=True).size == 258
    with pytest.raises(UserError, match=r"model\.vocabulary is 257"):
        bpe.train(TEXTS, size=257, lowercase=True)


def test_training_is_deterministic_here_and_after_a_fork(encoder: bpe.TextEncoder) -> None:
    program = """
import os, sys
TEXTS = ...
from uniperceiver.tokenizers import bpe
encoder = bpe.train(iter(TEXTS), size=310, lowercase=True)
child = os.fork()
if child == 0:
    print([*map(encoder.encode, TEXTS)], encoder.fingerprint(), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0 and "TOKENIZERS_PARALLELISM" not in os.environ
""".replace("...", repr(TEXTS))
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2]
    )
    assert (result.stdout, result.stderr) == (f"{[*map(encoder.encode, TEXTS)]} {encoder.fingerprint()}\n", "")


def test_saved_and_loaded_it_is_the_same(encoder: bpe.TextEncoder, tmp_path: Path) -> None:
    first, second = tmp_path / "tokenizer.json", tmp_path / "again.json"
    encoder.save(first)
    loaded = bpe.load(first)
    loaded.save(second)
    assert first.read_bytes() == second.read_bytes()
    assert loaded == encoder == bpe.from_file(first)
    assert (loaded.specials, loaded.size, loaded.cleaning) == (encoder.specials, encoder.size, encoder.cleaning)
    assert [*map(loaded.encode, TEXTS)] == [*map(encoder.encode, TEXTS)]
    assert (loaded.fingerprint(), hash(loaded)) == (encoder.fingerprint(), hash(encoder))


def test_another_encoder_has_another_fingerprint(encoder: bpe.TextEncoder) -> None:
    others = [
        bpe.train(TEXTS, size=309, lowercase=True),
        bpe.TextEncoder(library=encoder.library, specials=encoder.specials, cleaning="spaces"),
        bpe.TextEncoder(library=encoder.library, specials={bpe.END: 309, bpe.ANSWER: 308}, cleaning="lower"),
    ]
    assert len({encoder.fingerprint(), *(other.fingerprint() for other in others)}) == 4
    assert all(other != encoder for other in others)


def test_a_copy_is_the_same(encoder: bpe.TextEncoder) -> None:
    for again in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
        assert again == encoder
        assert [*map(again.encode, TEXTS)] == [*map(encoder.encode, TEXTS)]


def _set(*keys: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("uniperceiver", "cleaning", value="upper"), "cleaning"),
        (_set("uniperceiver", "version", value=2), "version"),
        (_set("uniperceiver", "extra", value=2), "unknown key 'extra'"),
        (_set("uniperceiver", "specials", value={bpe.END: 308}), "do not fit"),
        (_set("uniperceiver", "specials", value={bpe.END: 308, bpe.ANSWER: 308}), "do not fit"),
        (_set("uniperceiver", "specials", value={bpe.END: 308, bpe.ANSWER: 5}), "do not fit"),
        (_set("uniperceiver", "specials", value={bpe.END: 308, bpe.ANSWER: 999}), "gap"),
        (_set("uniperceiver", "specials", value={bpe.END: 308, bpe.ANSWER: -1}), "gap"),
        (_set("uniperceiver", "atoms", value=["<|gen|>"]), "do not fit"),
        (_set("tokenizer", value=[]), "not a tokenizer.json"),
        (_set("tokenizer", "model", value={"type": "BPE"}), "not a tokenizer.json"),
        (_set("tokenizer", "model", value={"type": "BPE", "vocab": {}, "merges": []}), "no vocabulary"),
        (_set("more", value=1), "not a text encoder"),
    ],
)
def test_a_damaged_file_is_refused(
    encoder: bpe.TextEncoder, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    path = tmp_path / "tokenizer.json"
    encoder.save(path)
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(UserError, match=f"tokenizer.json: .*{message}"):
        bpe.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"{}", b"\xff\xfe", b"\x1f\x8b\x08", b"hello"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    for read in (bpe.load, bpe.from_file):
        with pytest.raises(UserError, match=r"tokenizer\.json: "):
            read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (bpe.load, bpe.from_file):
        with pytest.raises(UserError, match=r"none\.json: no such file"):
            read(tmp_path / "none.json")
        with pytest.raises(UserError, match="cannot be read"):
            read(tmp_path)
