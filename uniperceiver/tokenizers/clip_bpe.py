"""The vocabulary of CLIP: its merges file and its clean-up of texts, as a tokenizer of the library `tokenizers`.

Source: `clip/simple_tokenizer.py` of Radford et al. 2021; the five special tokens are Uni-Perceiver's.
"""

import html
import re
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from uniperceiver.errors import UserError

MERGES = 48894
# In the order of their ids, which follow the merges.
SPECIALS = ("<|startoftext|>", "<|endoftext|>", "<|mask|>", "<|gen|>", "<|spe|>")
# Those that the original splits off as one word; it forgets <|mask|>.
ATOMS = ("<|startoftext|>", "<|endoftext|>", "<|gen|>", "<|spe|>")

_WORD = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_END_OF_WORD = "</w>"
_SPACE = "Ġ"  # the byte 0x20 among the byte symbols
# "it 's a cat ." -> "it's a cat."; both spellings have the same ids.
_NEEDLESS_SPACE = r"(?<=[\p{L}\p{N}]) (?=[.,!?;:](?:\s|$)|'(?:s|t|re|ve|m|ll|d)\b)"


def clean(text: str) -> str:
    """The text as CLIP reads it: mojibake and HTML entities mended, white space collapsed, lower case.

    Raises:
        UserError: the package ftfy is missing.
    """
    try:
        import ftfy
    except ImportError:
        raise UserError("the CLIP vocabulary needs the package ftfy: pip install ftfy") from None
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    # Not the library's Lowercase: it differs from Python's on the Greek final sigma.
    return re.sub(r"\s+", " ", text).strip().lower()


def read_merges(text: str, count: int, where: str) -> list[tuple[str, str]]:
    """The first `count` merges of the text of CLIP's merges file (a line of version, then two pieces per line).

    Raises:
        UserError: the text is no such file, or it holds fewer merges.
    """
    header, *lines = text.rstrip("\n").split("\n")
    merges = [tuple(line.split()) for line in lines[:count]]
    if "#version" not in header or any(len(merge) != 2 for merge in merges):
        raise UserError(f"{where}: neither a tokenizer.json nor the CLIP vocabulary (bpe_simple_vocab_16e6.txt.gz)")
    if len(merges) < count:
        raise UserError(f"{where}: holds {len(merges)} merges, the CLIP vocabulary has {count}; fetch the file again")
    pieces = set(_symbols())
    for number, (left, right) in enumerate(merges, start=2):
        if not {left, right} <= pieces or left + right in pieces:
            raise UserError(f"{where}: line {number} merges {left!r} and {right!r}, which cannot be; fetch it again")
        pieces.add(left + right)
    return [(left, right) for left, right in merges]


def clip_tokenizer(merges: Sequence[tuple[str, str]], literal_specials: bool) -> Tokenizer:
    """CLIP's BPE over cleaned texts; its ids are 0 .. 511 + len(merges), without any special token.

    With `literal_specials` an atom in the text is a word of its own, which the caller turns into the atom's id.
    """
    pieces = [*_symbols(), *("".join(merge) for merge in merges)]
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges), end_of_word_suffix=_END_OF_WORD))
    words = "|".join([*map(re.escape, ATOMS), _WORD]) if literal_specials else _WORD
    split = pre_tokenizers.Split(Regex(f"(?i){words}"), behavior="removed", invert=True)
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(_END_OF_WORD, _SPACE),
            decoders.ByteLevel(),
            decoders.Replace(Regex(_NEEDLESS_SPACE), ""),
        ]
    )
    return tokenizer


def _symbols() -> list[str]:
    """The 512 symbols of single bytes: inside a word, then at its end; sorted, they have the original's order."""
    inside = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*inside, *(symbol + _END_OF_WORD for symbol in inside)]
