"""The words that caption scores compare: the Penn Treebank tokens of the COCO scorers, without their Java program.

The reference is PTBTokenizer of Stanford CoreNLP 3.4.1 with `-lowerCase`, then the punctuation list of
coco-caption's ptbtokenizer.py. The rules cover what captions hold; rare patterns (smileys, phone numbers, file
names) are left out.
"""

import re
import unicodedata

# coco-caption looks lower-cased tokens up in a list whose brackets are upper-case ("-LRB-"), so brackets stay words
# in the reference, and therefore here.
_PUNCTUATION = frozenset({"''", '"', "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"})

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}

_SPLIT_WORDS = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "lemme": ("lem", "me"),
    "gimme": ("gim", "me"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
}

# Typographic forms that the reference turns into ASCII; what it cannot read (beyond U+FFFF, controls) is a space.
_ASCII = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "–": "--", "—": "--"})
_UNREADABLE = re.compile(r"[^\x20-\x7e\xa1-\ud7ff\ue000-\ufffd]")

_ABBREVIATIONS = (
    "mr mrs ms dr prof gen col lt sgt capt gov sen rep rev st jr sr bros inc ltd corp co vs etc ph\\.d "
    "jan feb mar apr jun jul aug sep sept oct nov dec ave blvd rd dept mt ft"
).replace(" ", "|")

# The first alternative that fits wins, so special forms stand before the general word.
_TOKEN = re.compile(
    rf"""
    https?://\S+ | [\w.+-]+@[\w-]+(?:\.[\w-]+)+                  # addresses
  | [\#@][a-z]\w* | </?[a-z][^<>\s]*>                            # tags
  | [a-z](?:\.[a-z])+\b\.?                                       # a.m.
  | (?:{_ABBREVIATIONS})\. | no\.(?=\s*\d)
  | (?-i:[A-Z])\. | [a-z]\.(?=\s*\S)                             # initials
  | (?:\d+/\d+ | [+-]?(?:\d+ | (?=\.\d))(?:[.,:]\d+)*)(?![^\W_] | -[^\W_])  # 1/2  1,000  .5
  | '(?:s|m|d|re|ve|ll|em|n|cause|tis|twas)\b | '\d\ds?\b | n't\b | 'n'
  | [^\W_]+?(?=n't\b)                                            # is|n't
  | (?-i:[A-Z]+(?:&[A-Z]+)+)                                     # R&B
  | (?:[dol]'(?=[^\W_]))?[^\W_]+(?:[-_/.](?:[dol]')?[^\W_]+)*    # o'clock  t-shirt  and/or
  | \.{{3,}} | -{{2,}} | [?!]+ | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)


def words(caption: str) -> list[str]:
    """The tokens of a caption as the COCO scorers count them: lower-case, punctuation removed; [] if none is left."""
    tokens: list[str] = []
    composed = unicodedata.normalize("NFC", caption)  # an accent of its own would split its word
    for token in _TOKEN.findall(_UNREADABLE.sub(" ", composed.translate(_ASCII))):
        token = token.lower()
        tokens.extend(_SPLIT_WORDS.get(token) or (_BRACKETS.get(token, token),))
    return [word for word in tokens if word.strip("-.") and word not in _PUNCTUATION]
