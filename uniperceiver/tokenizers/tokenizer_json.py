"""The library `tokenizers`, kept in bounds: its files are checked, special tokens stay out of reach of texts.

Nothing here knows what the ids are for.
"""

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from uniperceiver.errors import UserError, refuse_pointer

GZIP = b"\x1f\x8b"
# A vocabulary of words holds hardly all of it: a control character, a Thai letter, an alchemical sign.
_RARE_TEXT = "\x01 ก 🜨"


def read_text(path: str | Path) -> str:
    """The text of a vocabulary file, gzipped or not.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        refuse_pointer(path)
        return (gzip.decompress(content) if content.startswith(GZIP) else content).decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a tokenizer.json or bpe_simple_vocab_16e6.txt.gz") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); fetch or save the file again") from None


def parse_json(text: str, where: str) -> dict[str, Any]:
    """The mapping in a JSON text, or a UserError."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON ({error}); fetch or save the file again") from None
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a tokenizer, found {type(values).__name__}")
    return values


def tokenizer_of(values: Mapping[str, Any], where: str) -> Tokenizer:
    """The tokenizer that a tokenizer.json describes, if it can encode every text, else a UserError."""
    try:
        tokenizer = Tokenizer.from_str(json.dumps(values))
    except Exception as error:  # the library raises nothing more special
        raise UserError(f"{where}: not a tokenizer.json of the library `tokenizers` ({error})") from None
    if not tokenizer.get_vocab():
        raise UserError(f"{where}: the tokenizer has no vocabulary; train one or fetch the file again")
    try:
        tokenizer.encode(_RARE_TEXT)
    except Exception as error:  # as above
        raise UserError(f"{where}: cannot encode every text ({error}); give it an unknown token") from None
    return tokenizer


def adopt(values: Mapping[str, Any], names: Sequence[str], where: str) -> tuple[Tokenizer, dict[str, int]]:
    """A foreign tokenizer for plain texts, and the ids of the special tokens of those names.

    The ids are the file's own where no text can write them, else new ones behind its vocabulary.

    Raises:
        UserError: the tokenizer is damaged, or it cannot encode every text.
    """
    # Cutting, padding and framing are the caller's; dropout would make the ids random.
    values = {**values, "truncation": None, "padding": None, "post_processor": None}
    model = values.get("model")
    if isinstance(model, dict) and "dropout" in model:
        values["model"] = {**model, "dropout": None}
    added = values.get("added_tokens")
    if isinstance(added, list):
        values["added_tokens"] = [
            {**token, "special": True} if isinstance(token, dict) and token.get("content") in names else token
            for token in added
        ]
    tokenizer = tokenizer_of(values, where)
    vocabulary = tokenizer.get_vocab()
    beyond = max(vocabulary.values()) + 1
    specials: dict[str, int] = {}
    for name in names:
        if name in vocabulary and not _can_write(values, name):
            specials[name] = vocabulary[name]
        else:
            specials[name], beyond = beyond, beyond + 1
    return tokenizer, specials


@contextmanager
def one_thread() -> Iterator[None]:
    """Train without the library's threads: its older versions warn at every later fork once they were used.

    A choice that the user made in the environment stays.
    """
    name = "TOKENIZERS_PARALLELISM"
    if name in os.environ:
        yield
        return
    os.environ[name] = "false"
    try:
        yield
    finally:
        del os.environ[name]


def _can_write(values: Mapping[str, Any], name: str) -> bool:
    """Whether a text may be given this entry: by the model; as an added token it is special, and passed over."""
    model = values["model"]
    if name not in {token["content"] for token in values["added_tokens"]}:
        return True
    vocabulary = model["vocab"]  # a mapping, or Unigram's list of (piece, score)
    if name not in (vocabulary if isinstance(vocabulary, dict) else dict(vocabulary)):
        return False
    merges = ("".join(merge if isinstance(merge, list) else merge.split(" ")) for merge in model.get("merges", ()))
    return model.get("type") != "BPE" or bool(model.get("ignore_merges")) or name in merges
