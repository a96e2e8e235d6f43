"""The eight attributes of every sequence that a task of the catalogue has, beside the original's own table.

Source: the original release's `datasets/moe_embeddings.py` ("code") and what Table 2 of Uni-Perceiver-MoE says
("paper rule"), as OFFICIAL.md, section 4, lists them. Two of the code's rows do not follow from its own bits: one row
serves the vocabulary of both MLM and captions, and the labels of text classification claim a visual input. Both are
what bit 0 on every candidate gives, so the release layout needs no table. It has no row for questions about pictures.
"""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from tests.tasks.test_catalogue import EXPECTED as OF_THE_ORIGINAL
from tests.tiny import hearing, tiny_batch, tiny_candidates, tiny_codec, tiny_model, tiny_task
from uniperceiver.moe.conditions import LAYOUTS, attribute, exchange, paper_bits, release_bits
from uniperceiver.moe.settings import KINDS, MoE
from uniperceiver.records import Facts, Segment
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.decode import prefix_with_query

# task: code and paper rule of the input's segments, then of the candidates
TABLE = {
    "image_classification": [("1001 1000", "1001 1001"), ("1001 0110", "1001 0100")],
    "video_classification": [("1001 1000", "1001 1001"), ("1001 0110", "1001 0100")],
    "text_classification": [("0101 0100", "0101 0101"), ("1101 0110", "0101 0100")],
    "image_tagging": [("1001 1000", "1001 1001"), ("1001 0110", "1001 0100")],
    "text_tagging": [("0101 0100", "0101 0101"), ("1101 0110", "0101 0100")],
    "visual_question_answering": [
        ("1101 1000", "1101 1001"),
        ("1101 0100", "1101 0101"),
        ("1101 0110", "1101 0100"),
    ],
    "masked_language_modelling": [("0101 0100", "0101 0101"), ("1101 0110", "0101 0100")],
    "image_captioning": [("1101 1000", "1101 1001"), ("1101 0101", "1101 0111"), ("1101 0110", "1101 0100")],
    "video_captioning": [("1101 1000", "1101 1001"), ("1101 0101", "1101 0111"), ("1101 0110", "1101 0100")],
    # v2's: rows of the original's classification, as proposals are visual tokens of the input and names are texts.
    "object_detection": [("1001 1000", "1001 1001"), ("1001 0110", "1001 0100")],
    "instance_segmentation": [("1001 1000", "1001 1001"), ("1001 0110", "1001 0100")],
    "image_text_retrieval": [("1001 1000", "1001 1001"), ("1001 0110", "1001 0100")],
    "video_text_retrieval": [("1001 1000", "1001 1001"), ("1001 0110", "1001 0100")],
}
# Tasks that hear, which the original has not: what its rule says of them.
HEARING = {
    "audio_classification": [("0001 0000", "0001 0001"), ("1001 0110", "0001 0100")],
    "audiovisual_classification": [
        ("1001 1000", "1001 1001"),
        ("1001 0000", "1001 0001"),
        ("1001 0110", "1001 0100"),
    ],
    "audio_captioning": [("0101 0000", "0101 0001"), ("0101 0101", "0101 0111"), ("1101 0110", "0101 0100")],
    "audio_text_retrieval": [("0001 0000", "0001 0001"), ("1001 0110", "0001 0100")],
    "video_audio_retrieval": [("1000 1000", "1000 1001"), ("1000 0010", "1000 0000")],
}
# The three bits behind the eight: sound in inputs, sound in targets, token is sound.
ADDED = {
    "audio_classification": ["101", "100"],
    "audiovisual_classification": ["100", "101", "100"],
    "audio_captioning": ["101", "100", "100"],
    "audio_text_retrieval": ["101", "100"],
    "video_audio_retrieval": ["010", "011"],
}


def as_bits(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.replace(" ", "")))


def segments(name: str) -> list[Segment]:
    """Of a real batch of that task: those of the input, then those of the candidates."""
    task, batch = tiny_task(name), tiny_batch(name)
    tokenizer = tiny_model(**hearing(task)).tokenizer
    candidates = tiny_candidates(task, batch).sequences
    return [*tokenizer(batch.inputs).segments, *tokenizer(candidates).segments]


def every_segment() -> list[Segment]:
    """All combinations of what a segment can be."""
    kinds = ((), ("visual",), ("text",), ("visual", "text"))
    found = []
    for side, inputs, targets, kind, causal in product(
        ("input", "candidate"), kinds, kinds, ("visual", "text"), (True, False)
    ):
        facts = Facts(side=side, inputs=inputs, targets=targets)  # type: ignore[arg-type]
        found.append(Segment(start=0, stop=1, kind=kind, causal=causal, facts=facts))
    return found


def test_the_table_has_every_task() -> None:
    assert TABLE.keys() | HEARING.keys() == CATALOGUE.keys()
    assert HEARING.keys() == ADDED.keys() == {name for name, task in CATALOGUE.items() if task.hears}


@pytest.mark.parametrize("name", [*TABLE, *HEARING])
def test_rows_are_those_of_the_original(name: str) -> None:
    found, table = segments(name), TABLE | HEARING
    assert [(release_bits(each), paper_bits(each)) for each in found] == [
        (as_bits(code), as_bits(paper)) for code, paper in table[name]
    ]
    assert [paper_bits(each) for each in CATALOGUE[name].segments()] == [as_bits(paper) for _, paper in table[name]]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*TABLE, *HEARING])
def test_sound_adds_three_bits_behind_those_that_were_there(name: str, layout: Any) -> None:
    deaf, settings = (MoE(condition="attribute", layout=layout, kinds=kinds) for kinds in (KINDS, (*KINDS, "audio")))
    for number, segment in enumerate(segments(name)):
        assert attribute(segment, deaf) == LAYOUTS[layout](segment)
        added = as_bits(ADDED[name][number]) if name in ADDED else (0, 0, 0)
        assert attribute(segment, settings) == (*LAYOUTS[layout](segment), *added)


@pytest.mark.parametrize("name", ["image_captioning", "video_captioning"])
def test_rows_of_a_caption_are_the_same_while_it_is_written(name: str) -> None:
    prefix = prefix_with_query(tiny_batch(name).inputs, tiny_codec().answer)
    found = tiny_model().tokenizer(prefix).segments
    assert [paper_bits(each) for each in found] == [as_bits(paper) for _, paper in TABLE[name][:2]]


def test_the_original_has_six_rows() -> None:
    assert len({release_bits(each) for name in OF_THE_ORIGINAL for each in segments(name)}) == 6
    # Vocabularies of text and of captions are two, and there are questions about pictures.
    assert len({paper_bits(segment) for name in TABLE for segment in segments(name)}) == 8


def test_every_bit_says_one_thing() -> None:
    facts = Facts(side="candidate", inputs=(), targets=())
    seen = Segment(start=3, stop=9, kind="visual", causal=False, facts=facts)
    assert paper_bits(seen) == as_bits("0000 1000")
    assert paper_bits(replace(seen, facts=replace(facts, inputs=("visual",)))) == as_bits("1000 1000")
    assert paper_bits(replace(seen, facts=replace(facts, inputs=("text",)))) == as_bits("0100 1000")
    assert paper_bits(replace(seen, facts=replace(facts, targets=("visual",)))) == as_bits("0010 1000")
    assert paper_bits(replace(seen, facts=replace(facts, targets=("text",)))) == as_bits("0001 1000")
    assert paper_bits(replace(seen, kind="text")) == as_bits("0000 0100")
    assert paper_bits(replace(seen, causal=True)) == as_bits("0000 1010")
    assert paper_bits(replace(seen, facts=replace(facts, side="input"))) == as_bits("0000 1001")
    assert paper_bits(replace(seen, start=0, stop=1, facts=replace(facts, task=4))) == paper_bits(seen)


def test_the_exchange_is_a_bijection() -> None:
    codes = list(product((0, 1), repeat=8))
    exchanged = [exchange(code) for code in codes]
    assert len(set(exchanged)) == 256
    assert set(exchanged) == set(codes)
    assert all(new == (*old[:6], 1 - old[7], old[6]) for old, new in zip(codes, exchanged, strict=True))


def test_the_release_sets_bit_0_on_candidates_and_exchanges_the_rest() -> None:
    for each in every_segment():
        expected = exchange(paper_bits(each))
        candidate = each.facts.side == "candidate"
        assert release_bits(each) == ((1, *expected[1:]) if candidate else expected)
        assert release_bits(each)[6] == candidate
        assert release_bits(each)[7] == each.causal


def test_layouts_by_name() -> None:
    assert (LAYOUTS["paper"], LAYOUTS["release"], len(LAYOUTS)) == (paper_bits, release_bits, 2)
