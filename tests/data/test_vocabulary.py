"""From the texts of a recipe to its text encoder, and how often its entries occur."""

from pathlib import Path

import torch

from tests.small_run import small_recipe
from uniperceiver.data.tasks import open_tasks
from uniperceiver.data.vocabulary import proposal, text_encoder


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
