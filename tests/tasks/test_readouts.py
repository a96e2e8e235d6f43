"""Answers that are read in a text: at the tokens that ask, and nowhere before they may be known."""

import pytest
import torch

from tests.tiny import tiny_batch, tiny_codec, tiny_model, tiny_task
from uniperceiver.records import Encoded
from uniperceiver.tasks.ask import read


@pytest.mark.parametrize("name", ["masked_language_modelling", "image_captioning", "video_captioning"])
def test_answers_are_read_at_the_tokens_that_ask(name: str) -> None:
    """Also where the text is the first segment, to which the <SPE> of the whole belongs."""
    batch, model = tiny_batch(tiny_task(name)), tiny_model()
    tokens, text = model.tokenizer(batch.inputs), batch.inputs.text
    assert text is not None
    size, length = tokens.x_BND.shape[:2]
    place_BN1 = torch.arange(length, dtype=torch.float32).expand(size, -1)[:, :, None]
    place_R = read(Encoded(x_BND=place_BN1, segments=tokens.segments), batch.readout)[:, 0].long()
    first = length - text.values.shape[1]
    assert int(place_R.min()) >= first
    ids_R = text.values[batch.readout.row_R, place_R - first]
    asks_R = ids_R == tiny_codec().answer
    if name == "masked_language_modelling":  # some hidden words are shown as others, or as they are
        assert float(asks_R.float().mean()) > 0.5
        shown_R = ids_R == batch.readout.target_R
        assert int((asks_R | shown_R).sum()) >= len(asks_R) - 2
    else:
        assert bool(asks_R.all())


def test_words_of_a_caption_stand_behind_the_prefix() -> None:
    """Order 0 is the prefix, which everybody sees: the first word has 1, as has the query for it."""
    text = tiny_batch("image_captioning").inputs.text
    assert text is not None
    assert text.order_BN is not None
    words = text.values.shape[1] // 2
    expected = torch.arange(1, words + 1)
    assert torch.equal(text.order_BN[0, :words], expected)
    assert torch.equal(text.order_BN[0, words:], expected)
