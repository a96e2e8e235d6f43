"""CLIP's vocabulary against the original's golden encodings, and against a plain second implementation."""

import gzip
import html
import json
import random
import sys
import unicodedata
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.shared import GOLDEN, OFFICIAL, needs_golden
from uniperceiver.errors import UserError
from uniperceiver.tokenizers import bpe, clip_bpe

ftfy = pytest.importorskip("ftfy")
regex = pytest.importorskip("regex")  # as the original: its \p{L} is not in `re`

VOCABULARY = Path(clip_bpe.__file__).parent / "clip" / "bpe_simple_vocab_16e6.txt.gz"  # as the package ships it
RECORDED = GOLDEN / "misc" / "tokenizer.json"
ATOMS = ["<|startoftext|>", "<|endoftext|>", "<|gen|>", "<|spe|>"]
MERGES = ["t h", "th e</w>", "a t</w>", "c at</w>", "' s</w>", "< |", "| ></w>", "s p", "sp e", "Ï ĥ", "Ã ©</w>"]
PIECES = [
    *["the", "Cat's", "don't", "'ſ", "aaaa", "ΣΑΣ", "İ", "ﬁ", "ß", "ÃƒÂ©", "日本語", "é"],
    *["&amp;", "&amp;lt;", "&#233;", "<|", "|>", "!!", "<|SPE|>", "</w>"],
    *clip_bpe.SPECIALS,
    *["👩\u200d🚀", "e\u0301", "\ud83d\ude00", "\ud800"],
    *"\n\t\x1f\x85\u00a0\u2028\u200b\ufeff\0  .,:;?'\"()-/_09²½Ⅷ",
]

# Some of the original's encodings (run of its tokenizer); all of them are compared where they are at hand.
KNOWN = {
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "it's  a   test & more &amp; stuff": [585, 568, 320, 1628, 261, 750, 261, 3487],
    "naïve café – déjà vu": [1097, 35689, 563, 15304, 1224, 25466, 73, 21259, 13230],
    "日本語テキスト": [39121, 44353, 34002, 252, 2429, 228, 47121, 32421, 486],
    "3.14159 is pi": [274, 269, 272, 275, 272, 276, 280, 533, 5357],
    "<|spe|>": [49410],
    "spe": [36676],
    "<|mask|>": [27, 347, 8306, 91, 285],  # no atom: plain text, as the original's pattern forgets it
    "<|endoftext|> x <|startoftext|>": [49407, 343, 49406],
    "ﬁligature": [1142, 1089, 4490],
}


@pytest.fixture(scope="module")
def original() -> bpe.TextEncoder:
    return bpe.clip_text_encoder(VOCABULARY, literal_specials=True)


@pytest.fixture(scope="module")
def plain_text() -> bpe.TextEncoder:
    return bpe.from_file(VOCABULARY)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A file of CLIP's format with few merges."""
    path = tmp_path / "merges.txt.gz"
    path.write_bytes(gzip.compress("\n".join(['"merges.txt#version: 0.2', *MERGES, ""]).encode()))
    return path


def plain_encoder(path: Path, count: int, atoms: list[str]) -> Callable[[str], list[int]]:
    """CLIP's BPE, written plainly after clip/simple_tokenizer.py: the oracle."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    symbol = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        symbol.setdefault(byte, chr(256 + len(symbol) - len(printable)))
    symbols = list(symbol.values())
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : count + 1]
    ranks = {tuple(line.split()): rank for rank, line in enumerate(lines)}
    entries = [*symbols, *(each + "</w>" for each in symbols), *map("".join, ranks)]
    ids = {entry: id for id, entry in enumerate(entries)}
    ids |= {atom: id for id, atom in enumerate(clip_bpe.SPECIALS, start=len(entries)) if atom in atoms}
    words = regex.compile(
        "|".join([*map(regex.escape, atoms), r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"]), regex.I
    )

    def split(word: str) -> list[str]:
        pieces = [symbol[byte] for byte in word.encode()]
        pieces[-1] += "</w>"
        while pairs := set(pairwise(pieces)) & ranks.keys():
            best = min(pairs, key=ranks.__getitem__)
            place = 0
            while place < len(pieces) - 1:
                if (pieces[place], pieces[place + 1]) == best:
                    pieces[place : place + 2] = ["".join(best)]
                place += 1
        return pieces

    def encode(text: str) -> list[int]:
        text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        text = regex.sub(r"\s+", " ", text).strip().lower()
        return [ids[piece] for word in words.findall(text) for piece in ([word] if word in atoms else split(word))]

    return encode


def random_texts(count: int, seed: int = 0) -> list[str]:
    """Texts that mix words, entities, specials, white space and characters of all of Unicode (as Python knows it)."""
    draw = random.Random(seed)
    known = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")]
    letters = "etaoinshrdlu" * 4

    def piece() -> str:
        pool = draw.random()
        return draw.choice(PIECES if pool < 0.5 else letters if pool < 0.8 else known)

    return ["".join(piece() for _ in range(draw.randrange(12))) for _ in range(count)]


def texts_that_differ(encoder: bpe.TextEncoder, plain: Callable[[str], list[int]], texts: list[str]) -> list[str]:
    return [text for text in texts if encoder.encode(text) != plain(text)]


def test_some_encodings_of_the_original(original: bpe.TextEncoder) -> None:
    assert {text: original.encode(text) for text in KNOWN} == KNOWN


def test_the_five_extra_ids(original: bpe.TextEncoder, plain_text: bpe.TextEncoder) -> None:
    names = ("<|startoftext|>", "<|endoftext|>", "<|mask|>", "<|gen|>", "<|spe|>")
    for encoder in (original, plain_text):
        assert encoder.specials == {name: 49406 + place for place, name in enumerate(names)}
        assert (encoder.size, encoder.end, encoder.answer) == (49411, 49407, 49410)


@needs_golden
def test_the_shipped_vocabulary_is_the_originals() -> None:
    assert VOCABULARY.read_bytes() == (OFFICIAL / VOCABULARY.name).read_bytes()


@needs_golden
def test_golden_encodings(original: bpe.TextEncoder) -> None:
    golden = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert {text: original.encode(text) for text in golden["encode"]} == golden["encode"]
    assert (original.size, original.specials) == (golden["vocab_size"], golden["specials"])


@needs_golden
def test_golden_words(original: bpe.TextEncoder) -> None:
    for text, words in json.loads(RECORDED.read_text(encoding="utf-8"))["basic_tokenize"].items():
        found = [original.decode(word) for word in original.encode_words(text)]
        assert found == ["" if word in ATOMS else word for word in words]


@needs_golden
def test_golden_glue_texts(original: bpe.TextEncoder) -> None:
    for entry in json.loads(RECORDED.read_text(encoding="utf-8"))["glue"].values():
        text = "".join(entry["pieces"]).replace("</w>", " ")
        ids = original.encode(text)
        assert ids == entry["ids"]
        assert ids[entry["spe_index"]] == original.answer


@pytest.mark.parametrize(("literal", "count"), [(True, 10_000), (False, 2_000)])
def test_the_whole_vocabulary_agrees_with_the_plain_implementation(
    literal: bool, count: int, original: bpe.TextEncoder, plain_text: bpe.TextEncoder
) -> None:
    encoder = original if literal else plain_text
    plain = plain_encoder(VOCABULARY, clip_bpe.MERGES, ATOMS if literal else [])
    assert texts_that_differ(encoder, plain, random_texts(count, seed=literal)) == []


def test_the_cut_of_the_golden_models() -> None:
    encoder = bpe.clip_text_encoder(VOCABULARY, merges=507)
    assert (encoder.size, encoder.end, encoder.answer) == (1024, 1020, 1023)


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("count", [0, 4, len(MERGES)])
def test_a_small_vocabulary_agrees_with_the_plain_implementation(small: Path, literal: bool, count: int) -> None:
    encoder = bpe.clip_text_encoder(small, merges=count, literal_specials=literal)
    plain = plain_encoder(small, count, ATOMS if literal else [])
    assert texts_that_differ(encoder, plain, random_texts(300)) == []
    assert encoder.specials == {name: 512 + count + place for place, name in enumerate(clip_bpe.SPECIALS)}


@pytest.mark.parametrize("literal", [False, True])
def test_words_join_to_the_ids(small: Path, literal: bool) -> None:
    encoder = bpe.clip_text_encoder(small, merges=len(MERGES), literal_specials=literal)
    for text in random_texts(300, seed=1):
        assert [id for word in encoder.encode_words(text) for id in word] == encoder.encode(text)


def test_special_tokens_in_a_text_are_plain_text(small: Path) -> None:
    encoder = bpe.clip_text_encoder(small, merges=len(MERGES))
    special = set(encoder.specials.values())
    assert not [text for text in random_texts(300, seed=2) if special & set(encoder.encode(text))]
    for name in clip_bpe.SPECIALS:
        assert encoder.decode(encoder.encode(f"a {name}")).replace(" ", "") == f"a{name}"


def test_literal_specials_are_words_but_not_the_mask_and_not_after_a_sign(small: Path) -> None:
    encoder = bpe.clip_text_encoder(small, merges=len(MERGES), literal_specials=True)
    assert encoder.encode_words("é<|spe|>the<|GEN|>")[1::2] == [[encoder.answer], [encoder.specials["<|gen|>"]]]
    assert encoder.specials["<|mask|>"] not in encoder.encode("<|mask|>")
    assert encoder.answer not in encoder.encode("!<|spe|>")  # "!<|" is one word of signs, as in the original


def test_decoding_sets_no_space_before_signs(small: Path) -> None:
    encoder = bpe.clip_text_encoder(small, merges=len(MERGES))
    ids = encoder.encode("The  cat's at: é, it isn't a 'hat'!")
    text = encoder.decode([encoder.answer, *ids, encoder.end, *ids])
    assert text == "the cat's at: é, it isn't a ' hat '!"
    assert encoder.encode(text) == ids


def test_saved_and_loaded_it_is_the_same(small: Path, tmp_path: Path) -> None:
    encoders = [bpe.clip_text_encoder(small, merges=9, literal_specials=literal) for literal in (False, True)]
    texts = random_texts(100, seed=3)
    for number, encoder in enumerate(encoders):
        encoder.save(tmp_path / f"{number}.json")
        again = bpe.load(tmp_path / f"{number}.json")
        assert again == encoder == bpe.from_file(tmp_path / f"{number}.json")
        assert [*map(again.encode, texts)] == [*map(encoder.encode, texts)]
    assert encoders[0] != encoders[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[: len(data) // 2], "cannot be read"),
        (lambda data: data[:10] + b"\xff" * 9 + data[19:], "cannot be read"),
        (lambda data: gzip.compress(b"\xff\xfe"), "cannot be read"),
        (lambda data: b"", "neither"),
        (lambda data: gzip.compress(b"hello\nworld"), "neither"),
        (lambda data: gzip.decompress(data).replace(b"sp e", b"spe"), "neither"),
        (lambda data: gzip.decompress(data).replace(b"c at</w>", b"c att"), "line 5"),
        (lambda data: gzip.decompress(data).replace(b"s p\n", b"t h\n"), "line 9"),
        (lambda data: gzip.decompress(data).replace(MERGES[-1].encode(), b""), "holds 10 merges"),
    ],
)
def test_a_damaged_file_is_refused(small: Path, change: Callable[[bytes], bytes], message: str) -> None:
    small.write_bytes(change(small.read_bytes()))
    with pytest.raises(UserError, match=f"merges.txt.gz: .*{message}"):
        bpe.clip_text_encoder(small, merges=len(MERGES))


def test_a_missing_file_and_a_missing_package_are_named(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"none\.gz: no such file"):
        bpe.clip_text_encoder(tmp_path / "none.gz")
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(UserError, match="pip install ftfy"):
        bpe.clip_text_encoder(small, merges=3)
