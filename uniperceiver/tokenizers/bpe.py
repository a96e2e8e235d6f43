"""Strings become ids: byte-pair encoding by the library `tokenizers`, with two ids that no text can write.

The end token closes every text, the answer token <SPE> asks; padding is id 0 and always comes with a validity mask.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from uniperceiver.atomic import write_text
from uniperceiver.errors import UserError
from uniperceiver.strict import parse, record
from uniperceiver.tokenizers import clip_bpe, tokenizer_json

END = "<|endoftext|>"
ANSWER = "<|spe|>"
BYTES = 256

Cleaning = Literal["none", "spaces", "lower", "clip"]


def _mend(text: str) -> str:
    """Lone surrogates (they have no UTF-8) become U+FFFD, pairs the character they mean."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _collapse(text: str) -> str:
    return " ".join(_mend(text).split())


_CLEANINGS = {
    "none": _mend,
    "spaces": _collapse,
    "lower": lambda text: _collapse(text.lower()),
    "clip": clip_bpe.clean,
}


@record
class _Saved:
    """What a saved encoder holds beside the library's own JSON."""

    version: Literal[1]
    cleaning: Cleaning
    specials: dict[str, int]
    atoms: list[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class TextEncoder:
    """String -> ids and back; can be pickled, and used in forked workers.

    Two encoders are equal if they do the same: ids, clean-up, special tokens.
    """

    library: Tokenizer = field(repr=False)  # knows every id that a text can write
    specials: Mapping[str, int]  # ids that are no words; END and ANSWER are always among them
    cleaning: Cleaning  # what is done to a text before the library sees it
    atoms: tuple[str, ...] = ()  # the special tokens that a text may write out (only for original models)

    def __post_init__(self) -> None:
        # Special tokens of a foreign tokenizer.json are plain text, too; the library forgets this when pickled.
        self.library.encode_special_tokens = True
        self._cleaned("")  # a missing package shows here, not in a worker

    @property
    def end(self) -> int:
        """The id that closes every text."""
        return self.specials[END]

    @property
    def answer(self) -> int:
        """The id of <SPE>, which asks."""
        return self.specials[ANSWER]

    @cached_property
    def size(self) -> int:
        """The number of vocabulary entries, special tokens included: every id is smaller."""
        return max([*self.library.get_vocab().values(), *self.specials.values()]) + 1

    def clean(self, text: str) -> str:
        """The text as the BPE sees it: texts that are equal then have the same ids."""
        text, normalizer = self._cleaned(text), self.library.normalizer
        return text if normalizer is None else normalizer.normalize_str(text)

    def _cleaned(self, text: str) -> str:
        """The text as the library is given it, which normalises it if it was made to."""
        return _CLEANINGS[self.cleaning](text)

    def encode(self, text: str) -> list[int]:
        """The ids of a text; nothing is added at its ends."""
        if self.atoms:
            return [id for word in self.encode_words(text) for id in word]
        text = self._cleaned(text)
        return self.library.encode(text, add_special_tokens=False).ids if text else []

    def encode_words(self, text: str) -> list[list[int]]:
        """The same ids, grouped by word, for masking whole words."""
        text = self._cleaned(text)
        if not text:
            return []
        encoding = self.library.encode(text, add_special_tokens=False)
        # Without a splitting rule the library calls the whole text one word.
        words = encoding.word_ids if self.library.pre_tokenizer is not None else list(range(len(encoding)))
        spans, ids = encoding.offsets, encoding.ids
        groups = [list(group) for _, group in groupby(range(len(ids)), key=words.__getitem__)]
        atoms = {atom: self.specials[atom] for atom in self.atoms}
        written = [text[spans[group[0]][0] : spans[group[-1]][1]] if atoms else "" for group in groups]
        return [
            [atoms[word]] if word in atoms else [ids[token] for token in group]
            for word, group in zip(written, groups, strict=True)
        ]

    def decode(self, ids: Iterable[int]) -> str:
        """A readable text: up to the first end token, without special tokens, single spaces."""
        words: list[int] = []
        special = set(self.specials.values())
        for id in map(int, ids):
            if id == self.end:
                break
            if 0 <= id < self.size and id not in special:
                words.append(id)
        return " ".join(self.library.decode(words, skip_special_tokens=True).split())

    def save(self, path: str | Path) -> None:
        """Write the one file that `load` reads, whole or not at all; the same encoder gives the same bytes."""
        write_text(Path(path), self._content)

    @property
    def content(self) -> str:
        """What the saved file holds, and `loads` reads."""
        return self._content

    def fingerprint(self) -> str:
        """The SHA-256 of the saved file: weights name the encoder that they were trained with."""
        return hashlib.sha256(self._content.encode()).hexdigest()

    @cached_property
    def _content(self) -> str:
        # The library refuses unknown keys in its own JSON, so that this library's lie beside it.
        more = {"version": 1, "cleaning": self.cleaning, "specials": dict(self.specials), "atoms": list(self.atoms)}
        return json.dumps({"uniperceiver": more, "tokenizer": json.loads(self.library.to_str())}, ensure_ascii=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextEncoder) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._content, "a pickled text encoder")


def train(texts: Iterable[str], *, size: int, lowercase: bool) -> TextEncoder:
    """A byte-level BPE of at most `size` entries, end and answer included, made from these texts.

    Few texts give fewer entries. The same texts give the same encoder.

    Raises:
        UserError: there is no room for the 256 bytes and the 2 special tokens.
    """
    if size < BYTES + 2:
        raise UserError(f"model.vocabulary is {size}; a byte-level BPE has at least {BYTES + 2} entries")
    cleaning: Cleaning = "lower" if lowercase else "spaces"
    library = Tokenizer(models.BPE())
    library.normalizer = normalizers.NFC()  # macOS and some editors write an accent as a character of its own
    # The space before a word belongs to it, also before the first: a word has the same ids wherever it stands.
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with tokenizer_json.one_thread():
        library.train_from_iterator(map(_CLEANINGS[cleaning], texts), trainer)
    end = library.get_vocab_size()
    return TextEncoder(library=library, specials={END: end, ANSWER: end + 1}, cleaning=cleaning)


def clip_text_encoder(path: str | Path, merges: int = clip_bpe.MERGES, literal_specials: bool = False) -> TextEncoder:
    """The vocabulary of CLIP, or a cut of it with that many merges, and five special tokens behind it.

    Args:
        path: bpe_simple_vocab_16e6.txt.gz
        literal_specials: a special token that a text spells out has its id, as in the original (<|mask|> has not).

    Raises:
        UserError: the file is missing, damaged or another one; or the package ftfy is missing.
    """
    pairs = clip_bpe.read_merges(tokenizer_json.read_text(path), merges, str(path))
    library = clip_bpe.clip_tokenizer(pairs, literal_specials)
    specials = {name: library.get_vocab_size() + index for index, name in enumerate(clip_bpe.SPECIALS)}
    atoms = clip_bpe.ATOMS if literal_specials else ()
    return TextEncoder(library=library, specials=specials, cleaning="clip", atoms=atoms)


def load(path: str | Path) -> TextEncoder:
    """The encoder that `TextEncoder.save` wrote; equal to it.

    Raises:
        UserError: the file is missing, damaged or another one.
    """
    return _restore(tokenizer_json.read_text(path), str(path))


def loads(content: str) -> TextEncoder:
    """The encoder with that `TextEncoder.content`; equal to it."""
    return _restore(content, "a text encoder")


def from_file(path: str | Path) -> TextEncoder:
    """The encoder of an existing vocabulary: saved by this library, a tokenizer.json of `tokenizers`, or CLIP's file.

    A foreign tokenizer.json keeps its ids; END and ANSWER are its own if no text can write them, else they follow.

    Raises:
        UserError: the file is missing, damaged or of another format.
    """
    text = tokenizer_json.read_text(path)
    if not text.lstrip().startswith("{"):
        return clip_text_encoder(path)
    values = tokenizer_json.parse_json(text, str(path))
    if "uniperceiver" in values:
        return _restore(text, str(path))
    library, specials = tokenizer_json.adopt(values, (END, ANSWER), str(path))
    return TextEncoder(library=library, specials=specials, cleaning="none")


def _restore(content: str, where: str) -> TextEncoder:
    values = tokenizer_json.parse_json(content, where)
    if set(values) != {"uniperceiver", "tokenizer"}:
        raise UserError(f"{where}: not a text encoder that this library saved; found the keys {sorted(values)}")
    saved = parse(_Saved, values["uniperceiver"], where)
    library = tokenizer_json.tokenizer_of(values["tokenizer"], where)
    ids = list(saved.specials.values())
    vocabulary = library.get_vocab()
    room = range(max(vocabulary.values()) + 1 + len(ids))
    foreign = [name for name, id in saved.specials.items() if id in vocabulary.values() and vocabulary.get(name) != id]
    if not {END, ANSWER, *saved.atoms} <= set(saved.specials) or len(set(ids)) < len(ids) or foreign:
        raise UserError(f"{where}: the special tokens {saved.specials} do not fit the vocabulary; save the file again")
    if not all(id in room for id in ids):
        raise UserError(f"{where}: the special tokens {saved.specials} leave a gap in the ids; save the file again")
    return TextEncoder(library=library, specials=saved.specials, cleaning=saved.cleaning, atoms=tuple(saved.atoms))
