"""From the texts of a recipe to its text encoder, and how often its entries occur."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.small_run import TASKS, small_recipe
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.data.tasks import open_tasks
from uniperceiver.data.vocabulary import proposal, text_encoder
from uniperceiver.tokenizers import bpe


def test_the_text_encoder_is_trained_on_the_recipes_own_texts(tmp_path: Path) -> None:
    recipe = small_recipe()
    codec = text_encoder(recipe, open_tasks(recipe, tmp_path), tmp_path)
    assert codec.size == 280
    assert codec.decode(codec.encode("A Red square")) == "a red square"
    codec.save(tmp_path / "tokenizer.json")
    again = small_recipe(model__vocabulary="tokenizer.json")
    assert text_encoder(again, open_tasks(again, tmp_path), tmp_path).fingerprint() == codec.fingerprint()


def test_frequent_words_are_proposed_more_often(tmp_path: Path) -> None:
    recipe = small_recipe(("words",))
    tasks = open_tasks(recipe, tmp_path)
    codec = text_encoder(recipe, tasks, tmp_path)
    weights = proposal(codec, tasks)
    assert weights.shape == (280,)
    assert bool((weights >= 1).all())
    counts = torch.ones(280, dtype=torch.float64)
    for text in tasks[0].sources["train"].texts():
        for token in codec.encode(text):
            counts[token] += 1
    torch.testing.assert_close(weights, counts**0.75)


def test_data_of_several_tasks_are_read_once_and_count_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three tasks of one set outweigh the texts of the fourth as they would if each had read its own.
    names, again = ("captions", "relations", "retrieval"), TASKS["captions"]
    recipe = small_recipe(names, tasks__again=again, model__vocabulary=300)
    tasks = open_tasks(recipe, tmp_path)
    labels = [text for data in tasks for texts in data.task.labels for text in texts]
    template = (tasks[1].task.template or "").replace("{text}", "").replace("{answer}", "")
    texts = [text for data in tasks for text in data.sources["train"].texts()]
    reads, read = Counter[str](), ScenesSource.texts

    def counted(source: ScenesSource) -> Iterator[str]:
        reads[source.view] += 1
        return read(source)

    monkeypatch.setattr(ScenesSource, "texts", counted)
    codec = text_encoder(recipe, tasks, tmp_path)
    assert reads == {"image": 1, "text": 1}
    assert codec == bpe.train([*labels, template, *texts], size=300, lowercase=True)
    assert codec != bpe.train([*labels, template, *dict.fromkeys(texts)], size=300, lowercase=True)
