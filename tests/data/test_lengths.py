"""How many texts of a recipe are cut is said, and a second text is not lost."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.small_run import BASE, merged, small_recipe
from tests.tiny import tiny_codec
from uniperceiver.config import Recipe
from uniperceiver.data.batch import prepare
from uniperceiver.data.lengths import cut_notes, split_facts
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.streams import numpy_stream
from uniperceiver.strict import parse


def pairs(folder: Path, length: int, **more: str) -> TaskData:
    """Three pairs, of which the first text is long in two."""
    long = "a large red circle is left of a small blue square. " * 3
    rows = [f"{long}\ta red star\tyes", f"{long}\ta blue star\tno", "a circle\ta star\tno"]
    (folder / "pairs.tsv").write_text("\n".join(["one\ttwo\tis", *rows]))
    source = {"format": "tsv", "path": "pairs.tsv", "text": "one", "text_pair": "two", "label": "is"}
    task = {"kind": "text_classification", "train": source, "length": length, **more}
    (data,) = open_tasks(parse(Recipe, merged(BASE, {"tasks": {"pairs": task}}), "r"), folder)
    return data


def test_texts_that_are_cut_are_counted(tmp_path: Path) -> None:
    (note,) = cut_notes([pairs(tmp_path, 24)], tiny_codec())
    assert note == (
        "pairs/train: 2 of the first 3 texts are longer than length 24 and are cut; raise length, if they matter"
    )
    assert cut_notes([pairs(tmp_path, 200)], tiny_codec()) == []


@pytest.mark.parametrize("name", ["captions", "retrieval", "relations", "words"])
def test_only_what_is_longer_with_template_answer_and_end_token_is_said_to_be_cut(name: str) -> None:
    codec, (data,) = tiny_codec(), open_tasks(small_recipe((name,)), Path(), ("val",))
    of_classes = sum(map(len, data.sources["val"].classes or ()))
    texts = list(data.sources["val"].texts())[of_classes:]
    more = 1 + len(codec.encode("it is")) + len(codec.encode(".")) if name == "relations" else 0
    lengths = [len(codec.encode(text)) + more + 1 for text in texts]
    for length in (max(lengths), max(lengths) - 1, min(lengths)):
        longer = sum(each > length for each in lengths)
        notes = cut_notes([replace(data, preprocess=replace(data.preprocess, length=length))], codec)
        start = f"{name}/val: {longer} of the first {len(texts)} texts are longer than length {length} and"
        assert [note.startswith(start) for note in notes] == [True] * bool(longer)


def test_a_split_is_said_with_its_samples_and_classes(tmp_path: Path) -> None:
    (facts,) = split_facts([pairs(tmp_path, 24)], tiny_codec())
    assert (facts.task, facts.split, facts.samples, facts.classes) == ("pairs", "train", 3, 2)
    assert (facts.cut, facts.texts, facts.length) == (2, 3, 24)


def test_the_second_text_is_kept(tmp_path: Path) -> None:
    data, codec = pairs(tmp_path, 24, template="{text} ? {answer}"), tiny_codec()
    sample = data.sources["train"].read(0)
    asked = prepare(data.task, sample, data.preprocess, codec, None, numpy_stream(0)).asked
    assert asked.text is not None
    assert len(asked.text.ids) == 24
    assert "a red star ?" in codec.decode(asked.text.ids[: asked.text.ask_at[0]])
